//! Folders of images, one subfolder a class (torchvision's `ImageFolder`), and the reading of one image.
//!
//! Names are listed once; pixels are read when asked for, from any thread. What belongs to training and what is
//! held out depends on the names alone. Knows nothing about batches, seeds or devices.

use super::image_bytes;
use crate::error::{Error, Result};
use crate::random::threefry2x32;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, imageops::FilterType};
use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Colours of a pixel: red, green, blue.
pub const CHANNELS: usize = 3;
/// Pixels along a side that are not read any more.
const MAX_SIDE: u32 = 16_384;
/// Bytes of an image once it is unpacked.
const MAX_UNPACKED: u64 = 512 << 20;
/// Bytes of a file.
const MAX_FILE: u64 = 256 << 20;
/// Folders within folders of a class.
const MAX_DEPTH: usize = 16;
/// Endings of the files that are taken, in any case.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];
/// The two folders of a set that comes divided.
const DIVIDED: [&str; 2] = ["train", "val"];

/// An image that is listed but not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    pub path: PathBuf,
    /// Index into [`ImageFolder::classes`].
    pub class: u32,
}

/// Which images there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFolder {
    /// Names of the classes, sorted.
    pub classes: Vec<String>,
    /// To train on, sorted by class and name.
    pub training: Vec<ImageFile>,
    /// Held out, sorted likewise.
    pub validation: Vec<ImageFile>,
}

impl ImageFolder {
    /// Lists a folder that has one subfolder for each class, or `train` and `val` folders that have.
    ///
    /// Of an undivided folder the fraction `validation` of each class is held out, but at least one image and not
    /// the last one. A link to a file is followed, and a link to a folder only where it is the folder of a class.
    pub fn open(root: &Path, validation: f64) -> Result<ImageFolder> {
        let about = std::fs::metadata(root).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => refuse(root, "there is no such folder (is the path relative to another?)"),
            _ => Error::file(root, &e),
        })?;
        if !about.is_dir() {
            return Err(refuse(root, "this is a file; give the folder that has one subfolder for each class"));
        }
        let [train, val] = DIVIDED.map(|name| root.join(name));
        if train.is_dir() && val.is_dir() {
            return ImageFolder::divided(&train, &val);
        }
        let (classes, files) = list_classes(root)?;
        let mut folder = ImageFolder { classes, training: Vec::new(), validation: Vec::new() };
        for images in files {
            folder.divide(root, images, validation);
        }
        Ok(folder)
    }

    /// Stands for which files are listed and how they are divided, not for what is in them.
    pub fn fingerprint(&self) -> String {
        let files = self.training.iter().chain(&self.validation);
        let state = files.fold([self.training.len() as u32, self.validation.len() as u32], |state, file| {
            let [high, low] = hash_of_name(Path::new(file.path.file_name().unwrap_or_default()));
            threefry2x32(state, [high ^ file.class, low])
        });
        let [first, second] = state;
        format!("{first:08x}{second:08x}")
    }

    fn divided(train: &Path, val: &Path) -> Result<ImageFolder> {
        let ((classes, training), (held_out, validation)) = (list_classes(train)?, list_classes(val)?);
        let lacks = |own: &[String], other: &[String]| own.iter().find(|name| !other.contains(name)).cloned();
        let both = |lacking: &Path, name: String| {
            refuse(lacking, &format!("there is no class `{name}` here, but beside it; both must have the same classes"))
        };
        if let Some(name) = lacks(&classes, &held_out) {
            return Err(both(val, name));
        }
        if let Some(name) = lacks(&held_out, &classes) {
            return Err(both(train, name));
        }
        Ok(ImageFolder { classes, training: training.concat(), validation: validation.concat() })
    }

    /// Holds out a part of one class.
    fn divide(&mut self, root: &Path, images: Vec<ImageFile>, fraction: f64) {
        let held_out =
            ((images.len() as f64 * fraction).round() as usize).clamp(1, images.len().saturating_sub(1).max(1));
        let mut order: Vec<usize> = (0..images.len()).collect();
        // By a hash of the name: images that are added later move hardly any other.
        let hashes = images.iter().map(|image| hash_of_name(image.path.strip_prefix(root).unwrap_or(&image.path)));
        let hashes: Vec<[u32; 2]> = hashes.collect();
        order.sort_by_key(|&i| (hashes.get(i), i));
        let taken = if images.len() > 1 { held_out } else { 0 };
        let apart: BTreeSet<usize> = order.into_iter().take(taken).collect();
        for (index, image) in images.into_iter().enumerate() {
            if apart.contains(&index) { self.validation.push(image) } else { self.training.push(image) }
        }
    }
}

/// The names of the subfolders, sorted, and the images in each.
fn list_classes(root: &Path) -> Result<(Vec<String>, Vec<Vec<ImageFile>>)> {
    let mut names = Vec::new();
    for entry in read_folder(root)? {
        // A link to a folder counts as one.
        if !is_hidden(&entry) && entry.is_dir() {
            let name = entry.file_name().unwrap_or_default();
            let Some(text) = name.to_str() else {
                return Err(refuse(&entry, "the name of a class must be valid UTF-8; rename the folder"));
            };
            names.push(text.to_string());
        }
    }
    names.sort();
    match names.as_slice() {
        [] => return Err(refuse(root, "there is no subfolder; images must lie in one subfolder for each class")),
        [name] => {
            let message = format!("there is only one class, `{name}`; at least two subfolders are needed");
            return Err(refuse(root, &message));
        }
        _ => {}
    }
    let mut files = Vec::with_capacity(names.len());
    for (class, name) in names.iter().enumerate() {
        let mut paths = Vec::new();
        list_images(&root.join(name), 0, &mut paths)?;
        paths.sort();
        if paths.is_empty() {
            let message = "there is no image in this folder (names must end in .png, .jpg or .jpeg)";
            return Err(refuse(&root.join(name), message));
        }
        files.push(paths.into_iter().map(|path| ImageFile { path, class: class as u32 }).collect());
    }
    Ok((names, files))
}

/// Every image in a folder and the folders in it.
fn list_images(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(refuse(folder, &format!("folders lie more than {MAX_DEPTH} deep")));
    }
    for path in read_folder(folder)?.into_iter().filter(|path| !is_hidden(path)) {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if path.is_dir() {
            // A link could lead back up.
            if !path.is_symlink() {
                list_images(&path, depth.saturating_add(1), found)?;
            }
        } else if ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending)) {
            found.push(path);
        }
    }
    Ok(())
}

fn read_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::file(folder, &e))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|e| Error::file(folder, &e))).collect()
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// The same on every system: parts are joined by `/`.
fn hash_of_name(path: &Path) -> [u32; 2] {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let bytes = parts.join("/").into_bytes();
    bytes.iter().fold([0; 2], |state, &byte| threefry2x32(state, [u32::from(byte), 0]))
}

fn refuse(path: &Path, message: &str) -> Error {
    Error::file_refused(path.display().to_string(), message.into())
}

/// Reads a PNG or JPEG file: its middle square, upright, resized to `side` by `side`. Red, then green, then blue,
/// each row by row. Transparency is left out.
pub fn read_image(path: &Path, side: usize) -> Result<Vec<u8>> {
    read(path, side, CHANNELS)
}

/// Reads a PNG or JPEG file likewise as grey, from 0 (black) to 255.
pub fn read_grey(path: &Path, side: usize) -> Result<Vec<u8>> {
    read(path, side, 1)
}

fn read(path: &Path, side: usize, channels: usize) -> Result<Vec<u8>> {
    image_of_bytes(&path.display().to_string(), &super::files::read_whole(path, MAX_FILE)?, side, channels)
}

/// Reads an image from a file's bytes, as [`read_image`] (3 channels) and [`read_grey`] (1) do; `path` is for messages.
pub fn image_of_bytes(path: &str, bytes: &[u8], side: usize, channels: usize) -> Result<Vec<u8>> {
    // The decoders are made for hostile files; were one to panic nevertheless, this file is what is wrong.
    let decoded = std::panic::catch_unwind(|| decode(bytes));
    let image = decoded.unwrap_or_else(|_| Err("the decoder failed".into())).map_err(|message| {
        let format = if image_bytes::is_jpeg(bytes) { "JPEG" } else { "PNG or JPEG" };
        Error::format(path.into(), format, message)
    })?;
    Ok(planes(&image, side, channels))
}

fn decode(bytes: &[u8]) -> std::result::Result<DynamicImage, String> {
    image_bytes::check(bytes)?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_UNPACKED);
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    if decoder.total_bytes() > MAX_UNPACKED {
        return Err(format!("the image takes {} bytes; at most {MAX_UNPACKED} are read", decoder.total_bytes()));
    }
    image_bytes::check_size(bytes, decoder.total_bytes())?;
    let orientation = decoder.orientation().map_err(|e| e.to_string())?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    image.apply_orientation(orientation);
    match image.width().min(image.height()) {
        0 => Err("the image has no pixels".into()),
        _ => Ok(image),
    }
}

/// The middle square, resized; one plane after the other.
fn planes(image: &DynamicImage, side: usize, channels: usize) -> Vec<u8> {
    let square = image.width().min(image.height());
    let [x, y] = [image.width(), image.height()].map(|side| side.saturating_sub(square) / 2);
    let size = u32::try_from(side).unwrap_or(MAX_SIDE);
    let image = image.crop_imm(x, y, square, square);
    let image = if square == size { image } else { image.resize_exact(size, size, FilterType::Triangle) };
    let pixels = if channels == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() };
    (0..channels).flat_map(|channel| pixels.iter().skip(channel).step_by(channels)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;

    fn save(path: &Path, width: u32, height: u32) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 10) as u8, (y * 10) as u8, 200]));
        image.save(path).unwrap();
    }

    fn message(root: &Path) -> String {
        ImageFolder::open(root, 0.25).unwrap_err().to_string()
    }

    fn names(files: &[ImageFile]) -> Vec<String> {
        files.iter().map(|file| file.path.file_name().unwrap().to_string_lossy().to_string()).collect()
    }

    #[test]
    fn a_folder_is_listed_in_order_and_a_part_of_each_class_is_held_out() {
        let dir = tempfile::tempdir().unwrap();
        for class in ["dog", "cat", "ant"] {
            for i in 0..8 {
                save(&dir.path().join(class).join(format!("{class}{i}.png")), 2, 2);
            }
        }
        save(&dir.path().join("cat/more/deep.JPEG"), 2, 2);
        std::fs::write(dir.path().join("cat/notes.txt"), "no image").unwrap();
        std::fs::write(dir.path().join("cat/.hidden.png"), "no image").unwrap();
        std::fs::create_dir(dir.path().join(".cache")).unwrap();
        let folder = ImageFolder::open(dir.path(), 0.25).unwrap();
        assert_eq!(folder.classes, ["ant", "cat", "dog"]);
        assert_eq!((folder.training.len(), folder.validation.len()), (19, 6));
        let held_out = |class| folder.validation.iter().filter(|file| file.class == class).count();
        assert_eq!([held_out(0), held_out(1), held_out(2)], [2, 2, 2]);
        assert!(folder.training.iter().all(|file| !folder.validation.contains(file)));
        assert_eq!(ImageFolder::open(dir.path(), 0.25).unwrap(), folder);
        assert_ne!(ImageFolder::open(dir.path(), 0.5).unwrap().fingerprint(), folder.fingerprint());
        // Another image hardly moves the others.
        let before = names(&folder.validation);
        save(&dir.path().join("dog/another.png"), 2, 2);
        let after = names(&ImageFolder::open(dir.path(), 0.25).unwrap().validation);
        assert!(before.iter().filter(|name| after.contains(name)).count() >= 5, "{before:?} {after:?}");
    }

    #[test]
    fn a_divided_folder_stays_divided() {
        let dir = tempfile::tempdir().unwrap();
        for (part, class) in [("train", "a"), ("train", "b"), ("val", "a"), ("val", "b")] {
            save(&dir.path().join(part).join(class).join("1.png"), 2, 2);
        }
        let folder = ImageFolder::open(dir.path(), 0.25).unwrap();
        assert_eq!((folder.training.len(), folder.validation.len()), (2, 2));
        save(&dir.path().join("val/c/1.png"), 2, 2);
        assert!(message(dir.path()).contains("no class `c`"), "{}", message(dir.path()));
    }

    #[test]
    fn what_is_no_folder_of_classes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(message(&root.join("absent")).contains("no such folder"));
        assert!(message(root).contains("no subfolder"));
        save(&root.join("a/1.png"), 2, 2);
        assert!(message(root).contains("only one class, `a`"));
        assert!(message(&root.join("a/1.png")).contains("this is a file"));
        std::fs::create_dir(root.join("b")).unwrap();
        let empty = message(root);
        assert!(empty.contains("no image") && empty.contains(".png"), "{empty}");
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::ffi::OsStrExt;
            std::fs::create_dir(root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe"))).unwrap();
            assert!(message(root).contains("valid UTF-8"));
        }
    }

    #[test]
    fn an_image_is_its_middle_square_in_planes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wide.png");
        save(&path, 6, 4);
        let planes = read_image(&path, 4).unwrap();
        assert_eq!(planes[..16], [[10, 20, 30, 40]; 4].concat());
        assert_eq!(planes[16..20], [0; 4]);
        assert_eq!(planes[28..32], [30; 4]);
        assert_eq!(planes[32..], [200; 16]);
        assert_eq!(read_image(&path, 2).unwrap().len(), 12);
        assert_eq!(read_image(&path, 9).unwrap().len(), 243);
        // Grey, with transparency and 16 bits: all become red, green, blue.
        image::GrayAlphaImage::from_pixel(3, 3, image::LumaA([7, 0])).save(&path).unwrap();
        assert_eq!(read_image(&path, 1).unwrap(), [7; 3]);
        assert_eq!(read_grey(&path, 2).unwrap(), [7; 4]);
        DynamicImage::ImageLuma16(image::ImageBuffer::from_pixel(2, 2, image::Luma([0x8080]))).save(&path).unwrap();
        assert_eq!(read_image(&path, 1).unwrap(), [0x80; 3]);
    }

    #[test]
    fn a_damaged_file_is_an_error_wherever_it_is_cut_or_changed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.png", "a.jpg"] {
            let path = dir.path().join(name);
            save(&path, 9, 7);
            let whole = std::fs::read(&path).unwrap();
            assert!(read_image(&path, 4).is_ok());
            for cut in (0..whole.len() - 12).step_by(3) {
                std::fs::write(&path, &whole[..cut]).unwrap();
                let message = read_image(&path, 4).unwrap_err().to_string();
                assert!(message.contains(name) && message.contains("not a valid"), "{cut}: {message}");
            }
            for at in 0..whole.len() {
                let mut changed = whole.clone();
                changed[at] ^= 0x55;
                std::fs::write(&path, &changed).unwrap();
                // Any answer but a panic will do: a changed pixel is still an image.
                let _ = read_image(&path, 4);
            }
        }
        std::fs::write(dir.path().join("text.png"), "not an image at all").unwrap();
        assert!(read_image(&dir.path().join("text.png"), 4).is_err());
    }

    #[test]
    fn an_image_larger_than_the_limits_is_refused_before_it_is_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bomb.png");
        save(&path, 2, 2);
        let mut bytes = std::fs::read(&path).unwrap();
        // Width and height of the header, with its checksum put right.
        bytes[16..24].copy_from_slice(&[0, 0, 0x40, 1, 0, 0, 0, 1]);
        let checksum = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let message = read_image(&path, 4).unwrap_err().to_string();
        assert!(message.to_lowercase().contains("limit"), "{message}");
    }

    /// PNG's checksum, bit by bit.
    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
    }
}
