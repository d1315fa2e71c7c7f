//! Finds a file on Unix so that nobody but root and this process's user can have a hand in what is found.
//!
//! A path is walked from the root, one name at a time, each opened below the folder before it and without following
//! links; what was opened is judged, and never a path. So it does not matter what is moved or replaced meanwhile.
//!
//! A link is followed by hand, where its owner may be trusted and the folder that it lies in: Kubernetes and certbot show
//! their files by links, and so does macOS its `/tmp`. Where it leads is walked and judged like the rest.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Metadata},
    io::{self, Write},
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, PermissionsExt, fchown},
    },
    path::{Component, Path, PathBuf},
};

use rand::{TryRng, rngs::SysRng};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, linkat, openat, readlinkat, renameat, statat, unlinkat},
    io::Errno,
    process::geteuid,
};

use super::error::FileError;

/// As many as Linux follows.
const LINKS: u32 = 40;

const OTHERS_WRITE: u32 = 0o022;
const OTHERS_READ: u32 = 0o044;
const STICKY: u32 = 0o1000;

/// A folder is opened as a place to go on from. To read it would need a right that one may not have.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Without waiting for the other end of what may be a FIFO by now.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

const NEW: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Where a path leads: a folder that may be trusted, and a file in it if one is there.
pub(super) struct Place {
    pub(super) folder: Folder,
    name: OsString,
    file: Option<(File, Metadata)>,
    by_link: bool,
}

impl Place {
    pub(super) fn find(path: &Path) -> Result<Self, FileError> {
        let mut open = Vec::new();
        let found = Self::walk(path, &mut open);
        // All at once: where files are made for a group, each folder that somebody made is so.
        if open.is_empty() { found } else { Err(others_can_write(&open)) }
    }

    /// Puts the folders that others can write to into `open`. If there are any, what is found must not be used.
    fn walk(path: &Path, open: &mut Vec<PathBuf>) -> Result<Self, FileError> {
        let mut folder = Folder::root(open)?;
        // What is still to be walked, the next name last.
        let mut rest: Vec<OsString> = Vec::new();
        push(&mut rest, &std::path::absolute(path)?);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            let is_last = rest.is_empty();
            // Says what to try, and nothing else is concluded from it.
            let kind = match statat(&folder.file, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) if is_last => return Ok(Self { folder, name, file: None, by_link: links > 0 }),
                Err(Errno::NOENT) => return Err(folder.has_no_folder(&name)),
                Err(error) => return Err(folder.failed(&name, error)),
            };
            match kind {
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS {
                        return Err(folder.failed(&name, Errno::LOOP));
                    }
                    let target = folder.follow(&name)?;
                    if target.is_absolute() {
                        folder = Folder::root(open)?;
                    }
                    push(&mut rest, &target);
                }
                FileType::Directory if !is_last => folder = folder.enter(&name, open)?,
                FileType::RegularFile if is_last => {
                    let file = if open.is_empty() { Some(folder.open(&name)?) } else { None };
                    return Ok(Self { folder, name, file, by_link: links > 0 });
                }
                FileType::RegularFile => return Err(folder.failed(&name, Errno::NOTDIR)),
                kind => return Err(no_file(kind)),
            }
        }
        Err(no_file(FileType::Directory))
    }

    /// The file, and whether others can read it.
    pub(super) fn file(&self) -> Option<(&File, bool)> {
        self.file.as_ref().map(|(file, metadata)| (file, metadata.mode() & OTHERS_READ != 0))
    }

    /// The error where there is none.
    pub(super) fn missing(&self) -> io::Error {
        let text = match self.by_link {
            true => format!("there is no such file: a link leads to {}", self.folder.path.join(&self.name).display()),
            false => "there is no such file".to_owned(),
        };
        io::Error::new(io::ErrorKind::NotFound, text)
    }

    /// Writes a new file beside it, and gives it the name once it is whole.
    pub(super) fn write(self, bytes: &[u8], replace: bool) -> Result<(), FileError> {
        let mut random = [0; 8];
        SysRng.try_fill_bytes(&mut random).map_err(io::Error::other)?;
        let mut new = OsString::from(".");
        new.push(&self.name);
        new.push(format!(".{:016x}", u64::from_le_bytes(random)));
        let file = File::from(openat(&self.folder.file, &new, NEW, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?);
        let named = self.fill(file, bytes, replace).and_then(|()| match replace {
            true => renameat(&self.folder.file, &new, &self.folder.file, &self.name).map_err(io::Error::from),
            false => self.folder.rename_to_free(&new, &self.name).map_err(io::Error::from),
        });
        if named.is_err() {
            let _ = unlinkat(&self.folder.file, &new, AtFlags::empty());
        }
        Ok(named?)
    }

    fn fill(&self, mut file: File, bytes: &[u8], replace: bool) -> io::Result<()> {
        file.write_all(bytes)?;
        if let (Some((_, before)), true) = (&self.file, replace) {
            // A master that reads root's file by its group goes on to.
            if before.mode() & 0o040 != 0 {
                fchown(&file, None, Some(before.gid()))?;
                file.set_permissions(std::fs::Permissions::from_mode(0o640))?;
            }
        }
        file.sync_all()
    }
}

/// A folder that was judged, as was each above it.
pub(super) struct Folder {
    file: File,
    /// Without links, for errors.
    path: PathBuf,
    /// Others can put files in it, and not touch those that are not theirs: `/tmp`.
    is_shared: bool,
}

impl Folder {
    fn root(open: &mut Vec<PathBuf>) -> Result<Self, FileError> {
        let file = openat(CWD, "/", FOLDER, Mode::empty()).map_err(io::Error::from)?;
        Self::judged(file.into(), "/".into(), open)
    }

    fn enter(&self, name: &OsStr, open: &mut Vec<PathBuf>) -> Result<Self, FileError> {
        let file = openat(&self.file, name, FOLDER, Mode::empty()).map_err(|error| self.failed(name, error))?;
        let mut path = self.path.clone();
        match name == ".." {
            true => _ = path.pop(),
            false => path.push(name),
        }
        Self::judged(file.into(), path, open)
    }

    fn judged(file: File, path: PathBuf, open: &mut Vec<PathBuf>) -> Result<Self, FileError> {
        let metadata = file.metadata()?;
        let (mode, owner) = (metadata.mode(), metadata.uid());
        if !is_trusted(owner) {
            return Err(FileError::Refused(format!(
                "the folder {} belongs to user {owner}, who could put another file in its place; {}",
                path.display(),
                what_to_do("keep the file in a folder of its own user's or root's")
            )));
        }
        if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 && !open.contains(&path) {
            open.push(path.clone());
        }
        Ok(Self { file, path, is_shared: mode & OTHERS_WRITE != 0 })
    }

    pub(super) fn open(&self, name: &OsStr) -> Result<(File, Metadata), FileError> {
        let opened = openat(&self.file, name, FILE, Mode::empty()).map_err(|error| self.failed(name, error))?;
        let file = File::from(opened);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(no_file(FileType::Unknown));
        }
        let path = self.path.join(name);
        let owner = metadata.uid();
        if !is_trusted(owner) {
            return Err(FileError::Refused(format!(
                "it belongs to user {owner}, who may have put it there; {}",
                what_to_do(&format!("if you know what is in it, `chown {} {}`", geteuid().as_raw(), path.display()))
            )));
        }
        if metadata.mode() & OTHERS_WRITE != 0 {
            return Err(FileError::Refused(format!(
                "users other than its owner can write to it; if you know what is in it, `chmod go-w {}`",
                path.display()
            )));
        }
        // Anybody may have given another name here to a file that is not theirs.
        if self.is_shared && metadata.nlink() > 1 {
            return Err(FileError::Refused(format!(
                "it has {} names, and others can give it one in the folder {}; keep it in a folder that only its owner can \
                 write to",
                metadata.nlink(),
                self.path.display()
            )));
        }
        Ok((file, metadata))
    }

    /// Where a link leads, if it may be followed.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn follow(&self, name: &OsStr) -> Result<PathBuf, FileError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link =
            File::from(openat(&self.file, name, flags, Mode::empty()).map_err(|error| self.failed(name, error))?);
        self.judge_link(name, link.metadata()?.uid())?;
        // The link itself, which was judged, and not what has its name by now.
        let target = readlinkat(&link, "", Vec::new()).map_err(|error| self.failed(name, error))?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// Where a link leads, if it may be followed. It cannot be opened here, so nobody else must be able to replace it.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn follow(&self, name: &OsStr) -> Result<PathBuf, FileError> {
        if self.is_shared {
            return Err(FileError::Refused(format!(
                "the link {} is in a folder that others can write to; name the file itself",
                self.path.join(name).display()
            )));
        }
        let stat = statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| self.failed(name, error))?;
        self.judge_link(name, stat.st_uid)?;
        let target = readlinkat(&self.file, name, Vec::new()).map_err(|error| self.failed(name, error))?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    fn judge_link(&self, name: &OsStr, owner: u32) -> Result<(), FileError> {
        if is_trusted(owner) {
            return Ok(());
        }
        Err(FileError::Refused(format!(
            "the link {} belongs to user {owner}, who may have put it there; {}",
            self.path.join(name).display(),
            what_to_do("name the file itself")
        )))
    }

    /// Gives a file a name that none has.
    fn rename_to_free(&self, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            use rustix::fs::{RenameFlags, renameat_with};
            match renameat_with(&self.file, from, &self.file, to, RenameFlags::NOREPLACE) {
                // Not every file system can.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                done => return done,
            }
        }
        linkat(&self.file, from, &self.file, to, AtFlags::empty())?;
        unlinkat(&self.file, from, AtFlags::empty())
    }

    fn has_no_folder(&self, name: &OsStr) -> FileError {
        let text = format!("there is no folder {}", self.path.join(name).display());
        FileError::Io(io::Error::new(io::ErrorKind::NotFound, text))
    }

    fn failed(&self, name: &OsStr, error: Errno) -> FileError {
        let error = io::Error::from(error);
        let path = self.path.join(name);
        FileError::Io(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

/// The error where these folders are on the way to a file.
fn others_can_write(folders: &[PathBuf]) -> FileError {
    let list = |between: &str| {
        let shown: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        shown.join(between)
    };
    let what =
        if folders.len() > 1 { "their owners can write to the folders" } else { "its owner can write to the folder" };
    FileError::Refused(format!(
        "users other than {what} {}, and put another file in its place; `chmod go-w {}`, or keep the file elsewhere",
        list(" and "),
        list(" ")
    ))
}

/// Root can do all that this process can.
fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

/// Root has often to do with the files of others, so it is told the other way on too.
fn what_to_do(advice: &str) -> String {
    match geteuid().is_root() {
        true => format!("{advice}, or run this as that user"),
        false => advice.to_owned(),
    }
}

/// Puts the names of a path before those that are still to be walked.
fn push(rest: &mut Vec<OsString>, path: &Path) {
    rest.extend(path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }));
}

fn no_file(kind: FileType) -> FileError {
    let kind = match kind {
        FileType::Directory => "a folder",
        FileType::Fifo => "a FIFO (a named pipe)",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    };
    FileError::Refused(format!("it must be a regular file, and is {kind}"))
}
