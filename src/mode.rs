//! Modes as chmod(1) takes them: octal, or clauses like `u=rw,g+X,o=`.
//!
//! Invariant: accepts the same modes as chmod(1), with the same result on a regular file. A
//! property test compares the two.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

const ALL: u32 = 0o7777;
const EXECUTE: u32 = 0o111;

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModeChange(Vec<ModeStep>);

/// One operator and its operand.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ModeStep {
    /// The bits of u, g, o or a. `None` without such a letter: then the umask applies.
    who: Option<u32>,
    operator: u8,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Letters of `rwxst`, or an octal number.
    Bits(u32),
    /// Letters with `X` among them: execute only if some class may execute already.
    BitsAndExecuteIfAny(u32),
    /// The bits that one of u, g or o has.
    CopyOf(u32),
}

impl ModeChange {
    /// Parses a mode. `None` if chmod would reject it.
    pub(crate) fn parse(text: &OsStr) -> Option<Self> {
        let text = text.as_bytes();
        if text.first()?.is_ascii_digit() {
            let what = What::Bits(octal(text)?);
            return Some(Self(vec![ModeStep {
                who: Some(ALL),
                operator: b'=',
                what,
            }]));
        }
        let mut steps = Vec::new();
        for clause in text.split(|byte| *byte == b',') {
            parse_clause(clause, &mut steps)?;
        }
        Some(Self(steps))
    }

    /// Returns the mode that results from `mode`. Calls `umask` only if it matters.
    pub(crate) fn apply(&self, mode: u32, umask: impl Fn() -> u32) -> u32 {
        self.0.iter().fold(mode & ALL, |mode, step| {
            let value = match step.what {
                What::BitsAndExecuteIfAny(bits) if mode & EXECUTE != 0 => bits | EXECUTE,
                What::Bits(bits) | What::BitsAndExecuteIfAny(bits) => bits,
                What::CopyOf(class) => spread(mode & class),
            };
            let value = value & step.who.unwrap_or_else(|| !umask());
            match step.operator {
                b'+' => mode | value,
                b'-' => mode & !value,
                _ => (mode & !step.who.unwrap_or(ALL)) | value,
            }
        })
    }
}

/// Reads `[ugoa]*([-+=](OCTAL|[ugo]|[rwxXst]*))+`.
fn parse_clause(clause: &[u8], steps: &mut Vec<ModeStep>) -> Option<()> {
    let (letters, mut rest) = split_while(clause, |byte| b"ugoa".contains(&byte));
    let who = letters
        .iter()
        .fold(None, |who, letter| Some(who.unwrap_or(0) | class(*letter)));
    if rest.is_empty() {
        return None;
    }
    while let Some((&operator, after)) = rest.split_first() {
        if !b"-+=".contains(&operator) {
            return None;
        }
        let (what, after) = parse_what(after)?;
        // A number stands alone: neither after letters nor before another operator.
        let number = after.1;
        if number && (who.is_some() || !after.0.is_empty()) {
            return None;
        }
        let who = if number { Some(ALL) } else { who };
        steps.push(ModeStep {
            who,
            operator,
            what,
        });
        rest = after.0;
    }
    Some(())
}

/// Parses an operand. Returns it, the rest of the text, and whether the operand is a number.
fn parse_what(text: &[u8]) -> Option<(What, (&[u8], bool))> {
    match text.first() {
        Some(b'0'..=b'7') => {
            let (digits, rest) = split_while(text, |byte| byte.is_ascii_digit());
            Some((What::Bits(octal(digits)?), (rest, true)))
        }
        Some(letter @ (b'u' | b'g' | b'o')) => {
            Some((What::CopyOf(class(*letter) & 0o777), (&text[1..], false)))
        }
        _ => {
            let (letters, rest) = split_while(text, |byte| b"rwxXst".contains(&byte));
            let bits = letters.iter().fold(0, |bits, letter| {
                bits | match letter {
                    b'r' => 0o444,
                    b'w' => 0o222,
                    b'x' => 0o111,
                    b's' => 0o6000,
                    b't' => 0o1000,
                    _ => 0,
                }
            });
            let what = if letters.contains(&b'X') {
                What::BitsAndExecuteIfAny(bits)
            } else {
                What::Bits(bits)
            };
            Some((what, (rest, false)))
        }
    }
}

/// Returns the bits that a letter of `ugoa` stands for, with set-id and sticky.
fn class(letter: u8) -> u32 {
    match letter {
        b'u' => 0o4700,
        b'g' => 0o2070,
        b'o' => 0o1007,
        _ => ALL,
    }
}

/// Gives all three classes the permissions of one.
fn spread(mode: u32) -> u32 {
    [0o444, 0o222, 0o111]
        .into_iter()
        .filter(|bits| mode & bits != 0)
        .sum()
}

fn octal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'7' => Some(value * 8 + u32::from(digit - b'0')).filter(|value| *value <= ALL),
        _ => None,
    })
}

fn split_while(text: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !belongs(*byte))
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(text: &str, mode: u32) -> Option<u32> {
        ModeChange::parse(OsStr::new(text)).map(|change| change.apply(mode, || 0o022))
    }

    #[test]
    fn reads_octal_numbers() {
        assert_eq!(apply("640", 0o4777), Some(0o640));
        assert_eq!(apply("07777", 0), Some(0o7777));
        assert_eq!(apply("10000", 0), None);
        assert_eq!(apply("648", 0), None);
    }

    #[test]
    fn applies_clauses_from_left_to_right() {
        assert_eq!(apply("u=rw,go=", 0o777), Some(0o600));
        assert_eq!(apply("g=u,u+s", 0o640), Some(0o4660));
        assert_eq!(apply("a+X", 0o644), Some(0o644));
        assert_eq!(apply("u+x,a+X", 0o644), Some(0o755));
    }

    #[test]
    fn applies_the_umask_if_no_class_is_named() {
        assert_eq!(apply("+w", 0o444), Some(0o644));
        assert_eq!(apply("a+w", 0o444), Some(0o666));
        assert_eq!(apply("=", 0o644), Some(0));
    }

    #[test]
    fn refuses_what_chmod_refuses() {
        for text in [
            "", "u", "rw", "u+q", "u=rw,", ",u=r", "u+7", "+7x", "+ux", "8",
        ] {
            assert_eq!(apply(text, 0), None, "{text}");
        }
    }
}
