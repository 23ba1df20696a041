//! Access control lists as the kernel keeps them in extended attributes (acl(5), linux/posix_acl_xattr.h).
//!
//! The rule: only what must be known is read. An ACL is kept as it is; one thing is changed in it, the owning group's
//! share, where that group could not be kept.

use std::ffi::CStr;

/// A file's ACL.
pub(super) const ACCESS: &CStr = c"system.posix_acl_access";
/// What new files in a directory begin with.
pub(super) const DEFAULT: &CStr = c"system.posix_acl_default";

const VERSION: u32 = 2;
const HEADER: usize = 4;
const ENTRY: usize = 8;

const OWNER: u16 = 0x01;
const GROUP: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

/// An ACL of version 2, little endian on every machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl(Vec<u8>);

impl Acl {
    /// Takes the attribute's value; `None` if it is not what we know.
    pub(super) fn parse(value: Vec<u8>) -> Option<Self> {
        let version = u32::from_le_bytes(value.get(..HEADER)?.try_into().ok()?);
        let whole = (value.len() - HEADER) % ENTRY == 0;
        (version == VERSION && whole).then_some(Self(value))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn entry(&self, tag: u16) -> Option<u32> {
        let entries = self.0[HEADER..].chunks_exact(ENTRY);
        entries
            .map(|entry| (u16::from_le_bytes([entry[0], entry[1]]), entry[2]))
            .find(|(found, _)| *found == tag)
            .map(|(_, permissions)| u32::from(permissions) & 7)
    }

    /// What the owning group may do, of the three bits.
    pub(super) fn group(&self) -> u32 {
        self.entry(GROUP).unwrap_or(0) & self.entry(MASK).unwrap_or(7)
    }

    /// As a directory's default: the mode of a new file that is asked for with `mode`.
    pub(super) fn mode_of_new(&self, mode: u32) -> u32 {
        let share = |tag| self.entry(tag).unwrap_or(0);
        let group = self.entry(MASK).unwrap_or_else(|| share(GROUP));
        mode & (share(OWNER) << 6 | group << 3 | share(OTHERS))
    }

    /// Takes from the owning group what others do not have.
    pub(super) fn limit_group(&mut self) {
        let others = self.entry(OTHERS).unwrap_or(0);
        for entry in self.0[HEADER..].chunks_exact_mut(ENTRY) {
            if u16::from_le_bytes([entry[0], entry[1]]) == GROUP {
                // Three bits, all of them in the low byte.
                entry[2] &= others.to_le_bytes()[0];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u8)]) -> Acl {
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, permissions) in entries {
            value.extend(tag.to_le_bytes());
            value.extend([*permissions, 0]);
            value.extend(u32::MAX.to_le_bytes());
        }
        Acl::parse(value).expect("a whole ACL")
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert_eq!(Acl::parse(vec![]), None);
        assert_eq!(Acl::parse(vec![3, 0, 0, 0]), None);
        assert_eq!(Acl::parse(vec![2, 0, 0, 0, 1]), None);
    }

    #[test]
    fn gives_a_new_file_what_the_kernel_would() {
        let default = acl(&[(OWNER, 7), (GROUP, 5), (OTHERS, 0)]);
        assert_eq!(default.mode_of_new(0o666), 0o640);
        let default = acl(&[(OWNER, 7), (0x02, 7), (GROUP, 5), (MASK, 7), (OTHERS, 4)]);
        assert_eq!(default.mode_of_new(0o666), 0o664);
    }

    #[test]
    fn takes_from_the_group_what_others_do_not_have() {
        let mut list = acl(&[(OWNER, 6), (0x02, 6), (GROUP, 6), (MASK, 6), (OTHERS, 4)]);
        assert_eq!(list.group(), 6);
        list.limit_group();
        assert_eq!(list.group(), 4);
        assert_eq!(list.entry(MASK), Some(6));
    }
}
