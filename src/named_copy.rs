//! A copy of a file under a temporary name: for a backup that cannot be a hard link, and for an
//! unnamed file that cannot be linked.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Result;

use crate::attributes::{Attributes, InitialMode};
use crate::copy_error::CopyError;
use crate::destination::Destination;
use crate::inspector::ContentInspector;
use crate::request::Sync;
use crate::sys;
use crate::temp_name::TempName;
use crate::transfer::{ReadMethod, Reader, Transfer, Writeback};

/// A complete file with a random name.
#[derive(Debug)]
pub(crate) struct NamedCopy {
    /// Dropped before the name: FUSE and NFS rename an open file that is unlinked.
    pub(crate) file: OwnedFd,
    pub(crate) name: TempName,
    /// The attributes that could not be preserved, as warnings.
    pub(crate) warnings: Vec<String>,
}

impl NamedCopy {
    /// Copies `content` to a random name in DEST's directory, and gives the copy these attributes.
    pub(crate) fn make(
        content: BorrowedFd<'_>,
        attributes: &Attributes,
        destination: &Destination,
        sync: Sync,
    ) -> Result<Self> {
        let (name, file) = TempName::create(destination.directory())?;
        let mut copy = Self {
            file,
            name,
            warnings: Vec::new(),
        };
        copy_whole(content, copy.file.as_fd())?;
        copy.warnings = attributes.apply(copy.file.as_fd(), destination, InitialMode::Private)?;
        if sync != Sync::None {
            sys::sync_file(&copy.file)?;
        }
        sys::close_error(&copy.file)?;
        Ok(copy)
    }
}

/// Copies a file from its first byte to its last.
pub(crate) fn copy_whole(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), CopyError> {
    let reader = Reader {
        file: from,
        metadata: sys::metadata(from).map_err(CopyError::Reading)?,
        method: ReadMethod::Read,
    };
    sys::seek(from, 0).map_err(CopyError::Reading)?;
    let mut transfer = Transfer::begin(to, Writeback::Late, ContentInspector::default());
    transfer.copy_from(&reader)?;
    transfer.end().map(drop)
}
