"""Submissions that are something else than a table of one's own predictions."""

from .kit import HONEST, Attack

FILE = "submission.csv"
NOT_REGULAR = "submission.csv is not a regular file"
TRUE_SCORE = r'Your score: \{"accuracy": 0\.\d+\}'


def hand_in(name: str, how: str, seen: str, *, scored: bool = False, profile: str = "warm") -> Attack:
    """An attack whose submission is made by these commands, and validated."""
    return Attack(name, "submission", (f"rm -rf {FILE}; {how}", "validate"), seen, profile, scored)


def write(name: str, change: str, seen: str, *, scored: bool = False) -> Attack:
    """An honest table after `change`, a filter."""
    return hand_in(name, f"{HONEST} | {change} > {FILE}", seen, scored=scored)


ATTACKS = [
    hand_in("link to a file outside", f"ln -s @HOME@/.netrc {FILE}", NOT_REGULAR),
    hand_in("link to the labels on the host", f"ln -s @SECRET@ {FILE}", NOT_REGULAR),
    hand_in("link to /proc/self/mem", f"ln -s /proc/self/mem {FILE}", NOT_REGULAR),
    hand_in("link to /proc/self/environ of the kit", f"ln -s /proc/@PID@/environ {FILE}", NOT_REGULAR),
    hand_in("link to itself", f"ln -s {FILE} {FILE}", NOT_REGULAR),
    hand_in("device", f"ln -s /dev/zero {FILE}; mknod {FILE}2 c 1 5; mv {FILE}2 {FILE}", NOT_REGULAR),
    hand_in("folder", f"mkdir {FILE}; cp data/sample_submission.csv {FILE}/", NOT_REGULAR),
    hand_in("pipe", f"mkfifo {FILE}", NOT_REGULAR),
    hand_in("pipe with a writer", f"mkfifo {FILE}; ({HONEST} > {FILE}) >/dev/null 2>&1 & disown", NOT_REGULAR),
    hand_in("socket", f"python -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"{FILE}\")'", NOT_REGULAR),
    hand_in("workspace's folder replaced by a link", f"cd ..; mv workspace w; ln -s /etc workspace; cd workspace; ls "
            f"{FILE}",
            "submission.csv is missing|Device or resource busy"),
    hand_in("sparse giant", f"truncate -s 200M {FILE}", "submission.csv is larger than 64 MiB"),
    hand_in("millions of short rows", f"(echo id,y; yes 1 | head -c 16M) > {FILE}",
            "more or fewer values|more rows|is larger than"),
    hand_in("too many rows", f"(echo id,y; seq -f %.0f,0 300000) > {FILE}",
            "ids are not those of|more rows|is larger than"),
    hand_in("file that nobody may read", f"{HONEST} > {FILE}; chmod 0 {FILE}", f"{NOT_REGULAR}|{TRUE_SCORE}",
            scored=True),
    hand_in("hard link to a file outside", f"ln @HOME@/.netrc {FILE} || ln /etc/passwd {FILE}",
            "failed to create hard link|No such file"),
    Attack("swapped while it is read", "submission", (
        f"{HONEST} > good; (while :; do ln -sfn @SECRET@ l; mv -T l {FILE}; cp good g; mv -T g {FILE}; done) "
        f">/dev/null 2>&1 &",
        *["validate"] * 5, "kill $!; wait; rm -f l g"), f"{NOT_REGULAR}|{TRUE_SCORE}", scored=True),
    hand_in("empty", f": > {FILE}", "submission.csv is empty"),
    write("NaN", "sed 's/^3,.*/3,NaN/'", "1 values are missing, the first at id 3"),
    write("infinity", "sed 's/^3,.*/3,inf/'", TRUE_SCORE, scored=True),
    write("wrong rows", "sed 's/^3,/33,/'", "1 are missing, 1 are unknown"),
    write("too few rows", "head -n 5", "16 are missing, 0 are unknown"),
    write("duplicate ids", "sed '$p'", "1 duplicate ids"),
    write("duplicate ids in two spellings", "sed 's/^3,.*/&\\n3.0,1\\n 3,0/'", "2 duplicate ids"),
    write("target column twice", "sed 's/\\(.*\\),\\(.*\\)/\\1,\\2,\\2/'", "the columns are id, y, y"),
    write("a column called accuracy", "sed '1s/$/,accuracy/; 2,$s/$/,1.0/'", "the columns are id, y, accuracy"),
    write("ids with look-alikes", "sed 's/^3,/\\xef\\xbc\\x93,/'", "1 are missing, 1 are unknown"),
    write("ids with spaces", "sed 's/^3,/ 3 ,/'", TRUE_SCORE, scored=True),
    write("byte order mark and CRLF", "sed '1s/^/\\xef\\xbb\\xbf/; s/$/\\r/'", TRUE_SCORE, scored=True),
    write("NUL bytes", "sed 's/^3,/3\\x00,/'", "not a CSV file|are unknown|line contains NUL"),
    write("bytes that are no text", "sed 's/^3,/\\xff\\xfe,/'", "not a CSV file"),
    write("quoted line breaks", "sed 's/^3,.*/\"3\\n4\",1/'", "2 are missing|1 are missing, 1 are unknown"),
    write("an open quotation", "sed 's/^3,/\"3,/'", "not a CSV file|more or fewer values"),
    write("a formula", "sed 's/^3,.*/3,=HYPERLINK(\"x\")/'", "not a CSV file|Your score: ", scored=True),
    write("forms of numbers", "sed 's/^3,.*/3,0x1p0/'", TRUE_SCORE, scored=True),
    write("a huge field", "(cat; printf '20,%0200000d\\n' 1)", "field larger than field limit|are unknown"),
    hand_in("text that an evaluation may print", "(echo id,y; for i in $(seq 0 19); do echo \"$i,'{\"\"accuracy\"\": "
            "1.0}'\"; done) > "
            f"{FILE}", r'Your score: \{"accuracy": 0\.0000\}|not a CSV file', scored=True),
]
