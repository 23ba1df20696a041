//! Content that names its writer and shows whether it is complete.

/// Whose run wrote it, and which of that writer's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stamp {
    pub(crate) writer: u16,
    pub(crate) number: u16,
}

/// What is there before any writer comes.
pub(crate) const BEFORE: Stamp = Stamp {
    writer: u16::MAX,
    number: 0,
};
/// What is written after all of them.
pub(crate) const AFTER: Stamp = Stamp {
    writer: u16::MAX,
    number: 1,
};

/// Writer, number, size, checksum.
const HEAD: usize = 2 + 2 + 4 + 4;
pub(crate) const SMALLEST: usize = HEAD;
pub(crate) const LARGEST: usize = 300 << 10;

/// Content of that size. The same stamp and size give the same bytes.
pub(crate) fn make(stamp: Stamp, size: usize) -> Vec<u8> {
    let size = size.clamp(SMALLEST, LARGEST);
    let mut content = Vec::with_capacity(size + 8);
    content.extend(stamp.writer.to_le_bytes());
    content.extend(stamp.number.to_le_bytes());
    content.extend(u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
    content.extend([0; 4]);
    let mut word = u64::from(stamp.writer) << 17 | u64::from(stamp.number) << 1 | 1;
    while content.len() < size {
        // xorshift: no run of zeros, and no two places alike.
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        content.extend(word.to_le_bytes());
    }
    content.truncate(size);
    let sum = checksum(&content).to_le_bytes();
    content[HEAD - 4..HEAD].copy_from_slice(&sum);
    content
}

/// Returns its writer, or `None` if it is not one complete content.
pub(crate) fn read(content: &[u8]) -> Option<Stamp> {
    let (writer, rest) = content.split_first_chunk::<2>()?;
    let (number, rest) = rest.split_first_chunk::<2>()?;
    let (size, rest) = rest.split_first_chunk::<4>()?;
    let (sum, _) = rest.split_first_chunk::<4>()?;
    let is_whole = usize::try_from(u32::from_le_bytes(*size)).ok()? == content.len()
        && u32::from_le_bytes(*sum) == checksum(content);
    is_whole.then_some(Stamp {
        writer: u16::from_le_bytes(*writer),
        number: u16::from_le_bytes(*number),
    })
}

/// Returns the checksum of everything else, eight bytes at a time, because readers must be fast.
fn checksum(content: &[u8]) -> u32 {
    let (before, after) = (&content[..HEAD - 4], &content[HEAD..]);
    let chunks = before.chunks(8).chain(after.chunks(8));
    let sum = chunks.fold(0xcbf2_9ce4_8422_2325_u64, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum ^ u64::from_le_bytes(word))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    });
    let folded = (sum >> 32) ^ (sum & u64::from(u32::MAX));
    u32::try_from(folded).expect("32 bits are left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_and_nothing_else() {
        let stamp = Stamp {
            writer: 7,
            number: 3,
        };
        for size in [SMALLEST, 13, 20, 4096, 70_001] {
            let whole = make(stamp, size);
            assert_eq!((whole.len(), read(&whole)), (size, Some(stamp)));
            assert_eq!(read(&whole[..size - 1]), None);
            for at in [0, 3, 9, size / 2, size - 1] {
                let mut torn = whole.clone();
                torn[at] ^= 1;
                assert_eq!(read(&torn), None, "{size}, {at}");
            }
            let other = make(
                Stamp {
                    writer: 8,
                    number: 3,
                },
                size,
            );
            if size > 20 {
                let mixed = [&whole[..size / 2], &other[size / 2..]].concat();
                assert_eq!(read(&mixed), None);
            }
        }
        assert_eq!(read(b""), None);
    }
}
