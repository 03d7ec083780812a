//! Where durable things lie: the few calls that a save which survives a crash is made of.
//!
//! A trait, so that tests can make each call of a save fail, and so that a browser can bring its own.
//! Knows nothing of what is stored. [`Disk`] is the file system.

use std::io::{self, Write};
use std::path::Path;

/// A file being written.
pub trait StorageFile: Write + Send {
    /// Returns once the content would survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

/// A tree of directories and files.
pub trait Storage: Send + Sync {
    /// Makes a directory and those above it; it may be there already.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes an empty file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;

    /// The whole content of a regular file of at most `most` bytes; a longer one is an error.
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>>;

    /// Length and CRC-32C of what [`Storage::read`] would give. An implementation that can reads in pieces, so that no
    /// second copy of a large file is held.
    fn checksum(&self, path: &Path, most: u64) -> io::Result<(u64, u32)> {
        let bytes = self.read(path, most)?;
        Ok((bytes.len() as u64, crc32c::crc32c(&bytes)))
    }

    /// Names in a directory, in any order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Gives a file or directory another name, in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Returns once the names in a directory would survive a power cut.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with everything in it.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Bytes that can still be written where `path` lies, if the system tells.
    fn free_bytes(&self, _path: &Path) -> Option<u64> {
        None
    }
}

/// The file system.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

#[cfg(not(target_arch = "wasm32"))]
mod disk {
    use super::{Disk, Path, Storage, StorageFile, Write, io};
    use std::fs::{self, File};
    use std::io::Read;

    struct DiskFile(File);

    impl Write for DiskFile {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    impl StorageFile for DiskFile {
        fn sync(&mut self) -> io::Result<()> {
            self.0.sync_all()
        }
    }

    /// Bytes that are read at once where a file is only looked through.
    const PIECE: usize = 1 << 20;

    /// A regular file, from which one byte more than allowed can be read, so that one that grows meanwhile is noticed too.
    fn open(path: &Path, most: u64) -> io::Result<io::Take<File>> {
        // Asked before opening: opening a pipe would wait for a writer that never comes.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a regular file"));
        }
        Ok(File::open(path)?.take(most.saturating_add(1)))
    }

    fn too_long(most: u64) -> io::Error {
        let message = format!("the file is longer than the {most} bytes that it should have");
        io::Error::new(io::ErrorKind::InvalidData, message)
    }

    impl Storage for Disk {
        fn create_directory(&self, path: &Path) -> io::Result<()> {
            fs::create_dir_all(path)
        }

        fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
            Ok(Box::new(DiskFile(File::create(path)?)))
        }

        fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            open(path, most)?.read_to_end(&mut bytes)?;
            if bytes.len() as u64 > most { Err(too_long(most)) } else { Ok(bytes) }
        }

        fn checksum(&self, path: &Path, most: u64) -> io::Result<(u64, u32)> {
            let mut file = open(path, most)?;
            let (mut piece, mut bytes, mut crc32c) = (vec![0; PIECE], 0u64, 0);
            loop {
                let read = match file.read(&mut piece) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    other => other?,
                };
                let Some(part) = piece.get(..read).filter(|part| !part.is_empty()) else { break };
                bytes = bytes.saturating_add(part.len() as u64);
                crc32c = crc32c::crc32c_append(crc32c, part);
            }
            if bytes > most { Err(too_long(most)) } else { Ok((bytes, crc32c)) }
        }

        fn list(&self, path: &Path) -> io::Result<Vec<String>> {
            let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect()
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            fs::rename(from, to)
        }

        #[cfg(unix)]
        fn sync_directory(&self, path: &Path) -> io::Result<()> {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            File::open(path)?.sync_all()
        }

        /// Windows journals renames itself and cannot flush a directory.
        #[cfg(not(unix))]
        fn sync_directory(&self, _path: &Path) -> io::Result<()> {
            Ok(())
        }

        fn remove_file(&self, path: &Path) -> io::Result<()> {
            fs::remove_file(path)
        }

        fn remove_directory(&self, path: &Path) -> io::Result<()> {
            fs::remove_dir_all(path)
        }

        /// What a process without special rights may still write.
        #[cfg(unix)]
        fn free_bytes(&self, path: &Path) -> Option<u64> {
            let about = rustix::fs::statvfs(path).ok()?;
            // A file system that does not tell says that it has no blocks at all.
            (about.f_blocks > 0).then(|| about.f_bavail.saturating_mul(about.f_frsize))
        }
    }
}
