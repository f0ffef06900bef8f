"""Scripted attacks on the gym: what each tries, what must be seen of it, and what must hold afterwards."""

from . import code, display, inside, labels, outside, replacing, resources, submissions

ATTACKS = [attack for family in (labels, replacing, submissions, code, outside, inside, display, resources)
           for attack in family.ATTACKS]
