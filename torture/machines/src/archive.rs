//! Writes the archive that a kernel unpacks into its first root (initramfs): cpio's format "newc",
//! uncompressed, because an emulated processor is slow.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const DEVICE: u32 = 0o020_000;

/// An archive that is being written. It must end with [`Archive::finish`].
#[derive(Debug)]
pub(crate) struct Archive {
    file: BufWriter<File>,
    entries: u32,
}

impl Archive {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot create '{}'", path.display()))?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
            entries: 0,
        })
    }

    /// Adds all that is below a directory, as if it were below `into`, and that `wanted` takes,
    /// which is asked with paths relative to the directory.
    pub(crate) fn add_tree(
        &mut self,
        top: &Path,
        into: &Path,
        wanted: &dyn Fn(&Path) -> bool,
    ) -> Result<()> {
        let mut waiting = vec![PathBuf::new()];
        while let Some(below) = waiting.pop() {
            let directory = top.join(&below);
            let entries = fs::read_dir(&directory)
                .with_context(|| format!("cannot read '{}'", directory.display()))?;
            for entry in entries {
                let name = below.join(entry?.file_name());
                if !wanted(&name) {
                    continue;
                }
                let path = top.join(&name);
                let metadata = fs::symlink_metadata(&path)?;
                self.add_entry(&path, &into.join(&name), &metadata)
                    .with_context(|| format!("cannot archive '{}'", path.display()))?;
                if metadata.is_dir() {
                    waiting.push(name);
                }
            }
        }
        Ok(())
    }

    /// Adds a file with a content.
    pub(crate) fn add_file(&mut self, name: &str, permissions: u32, content: &[u8]) -> Result<()> {
        self.header(Path::new(name), REGULAR | permissions, content.len(), 0)?;
        self.body(content)
    }

    /// Adds an empty directory.
    pub(crate) fn add_directory(&mut self, name: &str) -> Result<()> {
        self.header(Path::new(name), DIRECTORY | 0o755, 0, 0)
    }

    /// Adds what the kernel opens for its first process: /dev/console.
    pub(crate) fn add_console(&mut self) -> Result<()> {
        self.header(Path::new("dev/console"), DEVICE | 0o600, 0, 1)
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        self.header(Path::new("TRAILER!!!"), 0, 0, 0)?;
        self.file.flush().context("cannot write an archive")
    }

    fn add_entry(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> Result<()> {
        let mode = metadata.mode();
        if metadata.is_symlink() {
            let target = fs::read_link(path)?;
            let target = target.as_os_str().as_bytes();
            self.header(name, mode, target.len(), 0)?;
            self.body(target)
        } else if metadata.is_file() {
            let mut content = Vec::new();
            File::open(path)?.read_to_end(&mut content)?;
            self.header(name, mode, content.len(), 0)?;
            self.body(&content)
        } else if metadata.is_dir() {
            self.header(name, mode, 0, 0)
        } else {
            // Devices and sockets: the kernel makes its own.
            Ok(())
        }
    }

    fn header(&mut self, name: &Path, mode: u32, size: usize, minor: u32) -> Result<()> {
        self.entries += 1;
        let name = name.as_os_str().as_bytes();
        let major = if minor == 0 { 0 } else { 5 };
        let size = u32::try_from(size).context("a file is too large for an archive")?;
        let length = u32::try_from(name.len() + 1)?;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            major,
            minor,
            length,
            0,
        ];
        let fields = fields.map(|field| format!("{field:08X}")).concat();
        let header = format!("070701{fields}");
        self.file.write_all(header.as_bytes())?;
        self.file.write_all(name)?;
        self.file.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        Ok(())
    }

    fn body(&mut self, content: &[u8]) -> Result<()> {
        self.file.write_all(content)?;
        self.pad(content.len())?;
        Ok(())
    }

    /// Everything begins at a multiple of four bytes.
    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.file.write_all(&[0; 3][..(4 - length % 4) % 4])
    }
}
