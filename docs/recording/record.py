#!/usr/bin/python3
"""Records the scenario in a terminal, and writes recording.svg beside it. `make recording` runs it.

What is typed and what is printed are real: a bash in a pseudo-terminal, with the program that RECORDING_PROGRAM names.
Only the clock is ours, so that the same program gives the same picture.

All rows stand in the picture as they are at the end, broken between words. A cover that moves with the cursor hides the
rows that are not printed yet. So where nothing moves, and in the first seconds, the picture shows the whole scenario. This
needs a screen on which nothing is overwritten, which is checked.
"""

import os
import subprocess
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

import pexpect
import pyte

HERE = Path(__file__).resolve().parent

# The terminal is wider than any line, so that only the picture breaks lines.
COLUMNS, LINES = 240, 40
WIDTH = 48
# The typed words are bold: PS1 switches that on, PS0 off.
PROMPT, AFTER = "\033[1m$ ", "\033[0m"

# Seconds; END is how long the whole picture is shown.
KEY = 0.015
RUN = 0.2
READ = 0.35
READ_LETTER = 0.004
END = 3.0

# A letter's cell, and what is around all of them.
CELL, ROW, MARGIN = 8.0, 18, 8
STYLE = """\
text{font:13.3px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace;\
fill:#57606a}
.typed{font-weight:600;fill:#1f2328}.remark,.cursor{fill:#0969da}.page{fill:#f6f8fa}
@media (prefers-color-scheme:dark){
text{fill:#9198a1}.typed{fill:#f0f6fc}.remark,.cursor{fill:#58a6ff}.page{fill:#161b22}
}
@media (prefers-reduced-motion:reduce){.coming{animation:none!important}}"""


class Terminal:
    """A shell, its screen, and where the cursor was at which time."""

    def __init__(self, directory):
        self.screen = pyte.Screen(COLUMNS, LINES)
        self.stream = pyte.Stream(self.screen)
        self.time = 0.0
        self.places = []
        self.filled = [""] * LINES
        path = f"{directory}/bin:{os.environ['PATH']}"
        environment = {
            "PATH": path, "LC_ALL": "C", "TERM": "xterm", "PS1": PROMPT, "PS0": AFTER, "HISTFILE": "/dev/null"
        }
        work = directory / "work"
        work.mkdir()
        self.shell = pexpect.spawn(
            "bash", ["--norc", "--noprofile", "--noediting"], cwd=work, env=environment,
            dimensions=(LINES, COLUMNS), encoding="utf-8", timeout=30,
        )
        self.shell.delaybeforesend = None
        self.show_until(PROMPT)

    def show_until(self, words):
        """Shows what comes, up to these words; gives how many letters that were."""
        self.shell.expect_exact(words)
        came = self.shell.before + self.shell.after
        self.stream.feed(came)
        filled = [line.rstrip() for line in self.screen.display]
        for old, new in zip(self.filled, filled):
            assert new.startswith(old), f"the picture cannot show how {old!r} becomes {new!r}"
        self.filled = filled
        self.places.append((self.time, self.screen.cursor.x, self.screen.cursor.y))
        return len(came)

    def run(self, command):
        for letter in command:
            self.time += KEY
            self.shell.send(letter)
            self.show_until(letter)
        self.time += RUN
        self.shell.send("\n")
        self.time += READ + READ_LETTER * self.show_until(PROMPT)


def breaks(text):
    """Gives where the parts of a line begin that fit into the picture, each at the start of a word."""
    starts = [0]
    while len(text) - starts[-1] > WIDTH:
        space = text.rfind(" ", starts[-1], starts[-1] + WIDTH + 1)
        assert space > starts[-1], f"too long for the picture: {text[starts[-1]:]!r}"
        starts.append(space + 1)
    return starts


def row(number, cells, is_remark):
    """A row of the picture, in one <text> element."""
    parts = []
    for cell in cells:
        if not parts or parts[-1][0] != cell.bold:
            parts.append([cell.bold, ""])
        parts[-1][1] += cell.data
    if not parts:
        return ""
    typed = "remark" if is_remark else "typed"
    words = "".join(
        f'<tspan class="{typed}">{escape(words)}</tspan>' if bold else escape(words) for bold, words in parts
    )
    y = MARGIN + number * ROW + 13
    length = len(cells) * CELL
    return f'<text x="{MARGIN}" y="{y}" textLength="{length:g}" xml:space="preserve">{words}</text>\n'


def draw(terminal):
    rows, first_rows, starts = [], [], []
    for number in range(terminal.screen.cursor.y + 1):
        line = terminal.screen.buffer[number]
        text = terminal.screen.display[number].rstrip()
        first_rows.append(len(rows))
        starts.append(breaks(text))
        for start, end in zip(starts[-1], starts[-1][1:] + [len(text) + 1]):
            cells = [line[column] for column in range(start, min(end, len(text)))]
            while cells and cells[-1].data == " ":
                cells.pop()
            rows.append(row(len(rows), cells, text.startswith("$ #")))

    def place(x, y):
        """Gives where the picture shows a cell of the terminal."""
        part = sum(start <= x for start in starts[y]) - 1
        return (x - starts[y][part]) * CELL, (first_rows[y] + part) * ROW

    # The whole picture comes first, so that it is never empty.
    _, x, y = terminal.places[-1]
    end_x, end_y = place(x, y)
    duration = END + terminal.time
    steps = f"0%{{transform:translate({end_x:g}px,{end_y}px)}}\n" + "".join(
        f"{100 * (END + time) / duration:.2f}%{{transform:translate({x:g}px,{y}px)}}\n"
        for time, (x, y) in ((time, place(x, y)) for time, x, y in terminal.places)
    )
    inner = WIDTH * CELL
    width, height = inner + 2 * MARGIN, len(rows) * ROW + 2 * MARGIN
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" width="{width:g}" height="{height}" \
role="img" aria-label="A recording of a terminal">
<style>
{STYLE}
.coming{{animation:play {duration:.1f}s step-end infinite}}
@keyframes play{{
{steps}}}
</style>
<rect class="page" width="100%" height="100%" rx="6"/>
{"".join(rows)}\
<svg x="{MARGIN}" y="{MARGIN}" width="{inner:g}" height="{len(rows) * ROW}">
<g class="coming" transform="translate({end_x:g} {end_y})">
<rect class="page" width="{inner:g}" height="{ROW}"/>
<rect class="page" x="-{inner:g}" y="{ROW}" width="{2 * inner:g}" height="{len(rows) * ROW}"/>
<rect class="cursor" y="1" width="{CELL:g}" height="{ROW - 2}"/>
</g>
</svg>
</svg>
"""


def main():
    program = Path(os.environ["RECORDING_PROGRAM"]).resolve(strict=True)
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        (directory / "bin").mkdir()
        (directory / "bin" / "atomwrite").symlink_to(program)
        terminal = Terminal(directory)
        for command in (HERE / "scenario").read_text().splitlines():
            terminal.run(command)
        picture = draw(terminal)
        terminal.shell.sendeof()
        terminal.shell.expect(pexpect.EOF)
    subprocess.run([program, HERE / "recording.svg"], input=picture.encode(), check=True)
    print(f"recording.svg: {terminal.time:.0f} s, {terminal.screen.cursor.y + 1} rows")


main()
