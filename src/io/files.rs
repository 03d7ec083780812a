//! The few file operations that differ between systems or must survive a crash.
//!
//! Knows paths and bytes, and not what they mean. Native targets only: a browser has no files.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Replaces the content of `path` so that after a crash or a power cut it is either the old or the
/// new content, never a part of it: write beside, flush to disk, rename, flush the directory.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary_beside(path)?;
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(e) = written.and_then(|()| std::fs::rename(&temporary, path)) {
        // The original error is the one worth reporting; a leftover is only untidy.
        let _ = std::fs::remove_file(&temporary);
        return Err(Error::file(path, &e));
    }
    sync_directory(path).map_err(|e| Error::file(path, &e))
}

/// A name in the same directory (a rename does not cross file systems) that no other process uses.
fn temporary_beside(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        let message = "this path does not name a file".to_string();
        return Err(Error::file_refused(path.display().to_string(), message));
    };
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}

/// Removes what atomic writes of a process that is gone left in a directory. A failure does no harm.
pub fn remove_leftovers(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Makes a rename in the directory of `path` durable.
#[cfg(unix)]
fn sync_directory(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Windows journals renames itself and cannot flush a directory.
#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Opens a file for reading, with a message of its own for what is not a regular file.
pub fn open_regular(path: &Path) -> Result<(File, u64)> {
    let refuse = |message: &str| Error::file_refused(path.display().to_string(), message.into());
    // Asked before opening: opening a pipe would wait for a writer that never comes.
    let about = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => refuse("there is no such file (is the path relative to another directory?)"),
        _ => Error::file(path, &e),
    })?;
    if about.is_dir() {
        return Err(refuse("this is a directory; give the path of one file in it"));
    }
    if !about.is_file() {
        return Err(refuse("this is not a regular file (a pipe or a device has no size); copy it to a file first"));
    }
    let file = File::open(path).map_err(|e| Error::file(path, &e))?;
    Ok((file, about.len()))
}

/// The bytes of a regular file of at most `most` bytes.
pub fn read_whole(path: &Path, most: u64) -> Result<Vec<u8>> {
    let (file, length) = open_regular(path)?;
    let too_long = || {
        Error::file_refused(
            path.display().to_string(),
            format!("the file has more than the {most} bytes that are read of such a file"),
        )
    };
    if length > most {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    let reserved = usize::try_from(length).is_ok_and(|length| bytes.try_reserve_exact(length).is_ok());
    if !reserved {
        return Err(Error::memory(format!("{} has {length} bytes, which cannot be held", path.display())));
    }
    // One byte more than allowed, so that a file that grows meanwhile is noticed too.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| Error::file(path, &e))?;
    if bytes.len() as u64 > most { Err(too_long()) } else { Ok(bytes) }
}

/// The text of a regular file of at most `most` bytes.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    text_of(&path.display().to_string(), read_whole(path, most)?)
}

/// Bytes as text, which must be UTF-8; a byte order mark is left out. `path` is for messages.
pub fn text_of(path: &str, bytes: Vec<u8>) -> Result<String> {
    let refuse = |message: &str| Error::format(path.into(), "UTF-8", message.into());
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(refuse("it is UTF-16; save it as UTF-8"));
    }
    let text = String::from_utf8(bytes).map_err(|e| refuse(&e.utf8_error().to_string()))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text))
}

/// Fills `buffer` from byte `offset` on, without moving a shared file position.
#[cfg(unix)]
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills `buffer` from byte `offset` on, whatever the file position is.
#[cfg(windows)]
pub fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = buffer.get_mut(read..).unwrap_or_default();
                offset = offset.saturating_add(read as u64);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atomic_write_replaces_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_atomic(&path, b"old content").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::fs::write(dir.path().join(".file.7.tmp"), b"of a process that is gone").unwrap();
        remove_leftovers(dir.path());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_nothing_and_names_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("taken");
        std::fs::create_dir(&target).unwrap();
        let message = write_atomic(&target, b"x").unwrap_err().to_string();
        assert!(message.contains("taken"), "{message}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let message = write_atomic(&dir.path().join("absent/file"), b"x").unwrap_err().to_string();
        assert!(message.contains("absent"), "{message}");
        assert!(write_atomic(Path::new("/"), b"x").is_err());
    }

    #[test]
    fn only_regular_files_open() {
        let dir = tempfile::tempdir().unwrap();
        let directory = open_regular(dir.path()).unwrap_err().to_string();
        assert!(directory.contains("directory"), "{directory}");
        let missing = open_regular(&dir.path().join("no")).unwrap_err().to_string();
        assert!(missing.contains("no such file"), "{missing}");
    }

    #[test]
    fn text_is_utf8_and_no_longer_than_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_text(&path, 8).map_err(|e| e.to_string())
        };
        assert!(read("\u{feff}größe".as_bytes()).unwrap_err().contains("more than the 8 bytes"));
        assert_eq!(read("\u{feff}weit".as_bytes()).unwrap(), "weit");
        assert_eq!(read(b"").unwrap(), "");
        assert!(read(&[0xff, 0xfe, b'a', 0]).unwrap_err().contains("save it as UTF-8"));
        assert!(read(&[b'a', 0xc3, 0x28]).unwrap_err().contains("index 1"));
        assert!(read(&[b'a'; 9]).unwrap_err().contains("more than the 8 bytes"));
        assert_eq!(read_whole(&path, 9).unwrap(), [b'a'; 9]);
        assert!(read_text(Path::new("/dev/zero"), 8).unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn positioned_reads_fail_at_the_end_instead_of_returning_less() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"0123456789").unwrap();
        let (file, bytes) = open_regular(&path).unwrap();
        assert_eq!(bytes, 10);
        let mut four = [0; 4];
        read_exact_at(&file, &mut four, 6).unwrap();
        assert_eq!(&four, b"6789");
        assert!(read_exact_at(&file, &mut four, 7).is_err());
    }
}
