#!/usr/bin/python3
"""Records the scenario in a terminal, and writes recording.svg beside it. `make recording` runs it.

What is typed and what is printed are real: a bash in a pseudo-terminal, with the program that RECORDING_PROGRAM names.
Only the clock is ours, so that the same program gives the same picture.

All rows stand in the picture as they are at the end. What has not come yet is covered by what moves with the cursor, so
where nothing moves, the whole scenario is to be seen. That needs a screen that is only ever filled, which is checked.
"""

import os
import subprocess
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

import pexpect
import pyte

HERE = Path(__file__).resolve().parent

COLUMNS, LINES = 48, 40
# The typed words are bold: PS1 switches that on, PS0 off.
PROMPT, AFTER = "\033[1m$ ", "\033[0m"

# Seconds.
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


def row(number, line):
    """A row of the screen, in one <text> element."""
    last = max((column for column in range(COLUMNS) if line[column].data != " "), default=-1)
    parts = []
    for column in range(last + 1):
        cell = line[column]
        if not parts or parts[-1][0] != cell.bold:
            parts.append([cell.bold, ""])
        parts[-1][1] += cell.data
    if not parts:
        return ""
    typed = "remark" if parts[0][1].startswith("$ #") else "typed"
    words = "".join(
        f'<tspan class="{typed}">{escape(words)}</tspan>' if bold else escape(words) for bold, words in parts
    )
    y = MARGIN + number * ROW + 13
    return f'<text x="{MARGIN}" y="{y}" textLength="{(last + 1) * CELL:g}" xml:space="preserve">{words}</text>\n'


def draw(terminal):
    terminal.time += END
    used = terminal.screen.cursor.y + 1
    inner = COLUMNS * CELL
    width, height = inner + 2 * MARGIN, used * ROW + 2 * MARGIN
    rows = "".join(row(number, terminal.screen.buffer[number]) for number in range(used))
    steps = "".join(
        f"{100 * time / terminal.time:.2f}%{{transform:translate({x * CELL:g}px,{y * ROW}px)}}\n"
        for time, x, y in terminal.places
    )
    _, x, y = terminal.places[-1]
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" width="{width:g}" height="{height}" \
role="img" aria-label="A recording of a terminal">
<style>
{STYLE}
.coming{{animation:play {terminal.time:.1f}s step-end infinite}}
@keyframes play{{
{steps}}}
</style>
<rect class="page" width="100%" height="100%" rx="6"/>
{rows}\
<svg x="{MARGIN}" y="{MARGIN}" width="{inner:g}" height="{used * ROW}">
<g class="coming" transform="translate({x * CELL:g} {y * ROW})">
<rect class="page" width="{inner:g}" height="{ROW}"/>
<rect class="page" x="-{inner:g}" y="{ROW}" width="{2 * inner:g}" height="{used * ROW}"/>
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
