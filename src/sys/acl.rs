//! Access control lists as the kernel stores them in extended attributes (acl(5),
//! linux/posix_acl_xattr.h).
//!
//! Only what must be known is parsed. An ACL is preserved as it is, except for the entries that a
//! mode sets, and those that are restricted if the owning group cannot be preserved.

const VERSION: u32 = 2;
const HEADER: usize = 4;
const ENTRY: usize = 8;

const OWNER: u16 = 0x01;
const NAMED_USER: u16 = 0x02;
const GROUP: u16 = 0x04;
const NAMED_GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

/// An ACL of version 2, little endian on every machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acl(Vec<u8>);

impl Acl {
    /// Parses the attribute's value. `None` if the format is unknown.
    pub(crate) fn parse(value: Vec<u8>) -> Option<Self> {
        let version = u32::from_le_bytes(value.get(..HEADER)?.try_into().ok()?);
        let whole = (value.len() - HEADER) % ENTRY == 0;
        (version == VERSION && whole).then_some(Self(value))
    }

    #[cfg(target_os = "linux")]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn entry(&self, tag: u16) -> Option<u32> {
        self.entries()
            .find(|(found, _)| *found == tag)
            .map(|(_, permissions)| permissions)
    }

    /// Returns the permissions of others, three bits.
    pub(crate) fn others(&self) -> u32 {
        self.entry(OTHERS).unwrap_or(0)
    }

    /// Returns the group and other bits of a mode that, without the ACL, grants no user more than
    /// the ACL did. A named user or group may belong to the group or to others.
    pub(crate) fn most_restrictive_mode(&self) -> u32 {
        let mask = self.entry(MASK).unwrap_or(7);
        let named = self
            .entries()
            .filter(|(tag, _)| [NAMED_USER, GROUP, NAMED_GROUP].contains(tag))
            .fold(self.others(), |least, (_, permissions)| {
                least & permissions & mask
            });
        let group = self.entry(GROUP).unwrap_or(0) & mask;
        let group = self
            .entries()
            .filter(|(tag, _)| [NAMED_USER, NAMED_GROUP].contains(tag))
            .fold(group, |least, (_, permissions)| least & permissions & mask);
        group << 3 | named
    }

    /// Changes the ACL as chmod(2) does.
    pub(crate) fn set_mode(&mut self, mode: u32) {
        let group = if self.entry(MASK).is_some() {
            MASK
        } else {
            GROUP
        };
        self.change(|tag, permissions| match tag {
            OWNER => mode >> 6 & 7,
            OTHERS => mode & 7,
            tag if tag == group => mode >> 3 & 7,
            _ => permissions,
        });
    }

    /// Returns the mode of a new file that is created with `mode`, if this is the directory's
    /// default ACL.
    pub(crate) fn mode_of_new(&self, mode: u32) -> u32 {
        let share = |tag| self.entry(tag).unwrap_or(0);
        let group = self.entry(MASK).unwrap_or_else(|| share(GROUP));
        mode & (share(OWNER) << 6 | group << 3 | share(OTHERS))
    }

    /// Revokes permissions because the owning group could not be preserved. The new group gets no
    /// more than others and each named group have, because a member of several groups has what any
    /// of them has. Others, who now include the old group's members, get no more than that group
    /// had.
    pub(crate) fn revoke_group(&mut self) {
        let mask = self.entry(MASK).unwrap_or(7);
        let both = self.entry(GROUP).unwrap_or(0) & mask & self.others();
        let group = self
            .entries()
            .filter(|(tag, _)| *tag == NAMED_GROUP)
            .fold(both, |least, (_, permissions)| least & permissions);
        self.change(|tag, permissions| match tag {
            GROUP => group,
            OTHERS => both,
            _ => permissions,
        });
    }

    fn change(&mut self, new: impl Fn(u16, u32) -> u32) {
        for entry in self.0[HEADER..].chunks_exact_mut(ENTRY) {
            let tag = u16::from_le_bytes([entry[0], entry[1]]);
            // The three bits are all in the low byte.
            entry[2] = new(tag, u32::from(entry[2])).to_le_bytes()[0];
        }
    }

    fn entries(&self) -> impl Iterator<Item = (u16, u32)> {
        self.0[HEADER..].chunks_exact(ENTRY).map(|entry| {
            (
                u16::from_le_bytes([entry[0], entry[1]]),
                u32::from(entry[2]) & 7,
            )
        })
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
    fn takes_from_a_lost_group_and_from_others_what_the_other_does_not_have() {
        let mut list = acl(&[
            (OWNER, 6),
            (NAMED_USER, 6),
            (GROUP, 6),
            (MASK, 6),
            (OTHERS, 4),
        ]);
        list.revoke_group();
        assert_eq!(
            list,
            acl(&[
                (OWNER, 6),
                (NAMED_USER, 6),
                (GROUP, 4),
                (MASK, 6),
                (OTHERS, 4)
            ])
        );
        let mut list = acl(&[(OWNER, 6), (GROUP, 0), (MASK, 6), (OTHERS, 4)]);
        list.revoke_group();
        assert_eq!(list.others(), 0);
        let named = [(NAMED_GROUP, 0), (MASK, 6), (OTHERS, 4)];
        let mut list = acl(&[&[(OWNER, 6), (GROUP, 6)], &named[..]].concat());
        list.revoke_group();
        assert_eq!(list, acl(&[&[(OWNER, 6), (GROUP, 0)], &named[..]].concat()));
    }

    #[test]
    fn without_the_acl_no_user_gets_more_than_with_it() {
        let list = acl(&[
            (OWNER, 6),
            (NAMED_USER, 0),
            (GROUP, 4),
            (MASK, 7),
            (OTHERS, 4),
        ]);
        assert_eq!(list.most_restrictive_mode(), 0);
        let list = acl(&[
            (OWNER, 6),
            (NAMED_USER, 6),
            (GROUP, 4),
            (MASK, 6),
            (OTHERS, 4),
        ]);
        assert_eq!(list.most_restrictive_mode(), 0o44);
        let list = acl(&[
            (OWNER, 6),
            (NAMED_USER, 6),
            (GROUP, 6),
            (MASK, 6),
            (OTHERS, 0),
        ]);
        assert_eq!(list.most_restrictive_mode(), 0o60);
    }

    #[test]
    fn sets_the_mask_as_chmod_does() {
        let mut list = acl(&[
            (OWNER, 6),
            (NAMED_USER, 6),
            (GROUP, 6),
            (MASK, 6),
            (OTHERS, 4),
        ]);
        list.set_mode(0o600);
        assert_eq!(
            list,
            acl(&[
                (OWNER, 6),
                (NAMED_USER, 6),
                (GROUP, 6),
                (MASK, 0),
                (OTHERS, 0)
            ])
        );
    }
}
