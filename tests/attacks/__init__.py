"""Scripted attacks on the gym: what each tries, what must be seen of it, and what must hold afterwards."""

from . import code, display, inside, kernel, labels, outside, races, replacing, resources, submissions

ATTACKS = [attack for family in (labels, replacing, submissions, code, races, outside, inside, kernel, display,
                                      resources)
           for attack in family.ATTACKS]
