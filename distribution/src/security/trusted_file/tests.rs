//! What is taken up and what is not: files of others, links, FIFOs, folders that others can write to.
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::{
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::geteuid,
};
use tempfile::TempDir;

use super::{access::LARGEST, unix as system, *};

/// `nobody`, who plants files here.
const OTHER: u32 = 65534;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changes");
}

/// Whether files can be given to others here, which CI must be able to.
fn is_root() -> bool {
    let is_root = geteuid().is_root();
    let forced = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(is_root || !forced, "it takes root to make files of other users");
    if !is_root {
        eprintln!("skipped: it takes root to make files of other users");
    }
    is_root
}

#[track_caller]
fn assert_read(file: &Path) {
    let contents = read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(contents.bytes(), b"secret");
}

#[track_caller]
fn assert_refused(file: &Path, parts: &[&str]) {
    let error = read(file).err().unwrap_or_else(|| panic!("{} must be refused", file.display()));
    assert!(error.kind().is_none(), "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
    }
    exists(file).expect_err("is refused here too");
    create(file, b"mine").expect_err("is refused here too");
    replace(file, b"mine").expect_err("is refused here too");
}

#[test]
fn a_file_of_ones_own_is_read() {
    let folder = folder();
    let file = folder.path().join("secret");
    fs::write(&file, "secret").expect("writes");
    for (mode, others_can_read) in [(0o600, false), (0o400, false), (0o640, true), (0o644, true)] {
        set_mode(&file, mode);
        assert_read(&file);
        assert_eq!(read(&file).expect("reads").others_can_read, others_can_read, "{mode:o}");
    }
    assert_read(&folder.path().join("./secret"));
    fs::create_dir(folder.path().join("below")).expect("makes");
    assert_read(&folder.path().join("below/../secret"));
}

#[test]
fn a_file_that_is_not_there_is_told_from_one_that_must_not_be_used() {
    let folder = folder();
    for path in ["none", "none/none"] {
        let error = read(&folder.path().join(path)).err().expect("is not there");
        assert_eq!(error.kind(), Some(io::ErrorKind::NotFound), "{error}");
    }
    assert!(!exists(&folder.path().join("none")).expect("may be there"));
    fs::write(folder.path().join("file"), "secret").expect("writes");
    let error = read(&folder.path().join("file/below")).err().expect("is not a folder");
    assert_eq!(error.kind(), Some(io::ErrorKind::NotADirectory), "{error}");
}

#[test]
fn a_file_of_another_user_is_refused() {
    if !is_root() {
        return;
    }
    let folder = folder();
    let file = folder.path().join("secret");
    fs::write(&file, "secret").expect("writes");
    set_mode(&file, 0o600);
    chown(&file, Some(OTHER), None).expect("gives it away");
    assert_refused(
        &file,
        &["it belongs to user 65534, who may have put it there", "`chown 0 ", "run this as that user"],
    );
    chown(&file, Some(0), Some(OTHER)).expect("takes it back");
    assert_read(&file);
}

#[test]
fn a_file_that_others_can_write_to_is_refused() {
    let folder = folder();
    let file = folder.path().join("secret");
    fs::write(&file, "secret").expect("writes");
    for mode in [0o620, 0o602, 0o666] {
        set_mode(&file, mode);
        assert_refused(&file, &["other than its owner can write to it", "`chmod go-w ", "/secret`"]);
    }
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    let root = folder();
    let (upper, file) = (root.path().join("upper"), root.path().join("upper/lower/secret"));
    fs::create_dir_all(upper.join("lower")).expect("makes");
    fs::write(&file, "secret").expect("writes");
    for path in [upper.clone(), upper.join("lower")] {
        for mode in [0o777, 0o775, 0o757] {
            set_mode(&path, mode);
            let advice = format!("`chmod go-w {}`", path.display());
            assert_refused(&file, &["other than its owner can write to the folder", &advice]);
        }
        // As /tmp is: others can put files there, and not touch this one.
        set_mode(&path, 0o1777);
        assert_read(&file);
        set_mode(&path, 0o755);
    }
    assert_read(&file);
}

#[test]
fn all_folders_that_others_can_write_to_are_told_at_once() {
    let root = folder();
    let (upper, lower) = (root.path().join("upper"), root.path().join("upper/lower"));
    fs::create_dir_all(&lower).expect("makes");
    for path in [&upper, &lower] {
        set_mode(path, 0o775);
    }
    let [told, advice] = [" and ", " "].map(|between| format!("{}{between}{}", upper.display(), lower.display()));
    for name in ["none", "file", "folder/none", "../lower/file"] {
        fs::write(lower.join("file"), "secret").expect("writes");
        let parts = [&format!("the folders {told}, and")[..], &format!("`chmod go-w {advice}`")];
        assert_refused(&lower.join(name), &parts);
    }
}

#[test]
fn what_is_missing_is_told() {
    let root = folder();
    let why = |name: &str| read(&root.path().join(name)).err().expect("is not there").to_string();
    let target = root.path().join("target");
    symlink("target", root.path().join("link")).expect("links");
    assert_eq!(why("none"), "there is no such file");
    assert_eq!(why("link"), format!("there is no such file: a link leads to {}", target.display()));
    symlink("target/file", root.path().join("deeper")).expect("links");
    for name in ["target/file", "deeper"] {
        let expected = format!("there is no folder {}", target.display());
        assert_eq!(why(name), expected);
        let told = exists(&root.path().join(name)).expect_err("nowhere to make it").to_string();
        assert_eq!(told, format!("{expected}; make the folder first"));
    }
}

#[test]
fn a_folder_of_another_user_is_refused() {
    if !is_root() {
        return;
    }
    let root = folder();
    let (upper, file) = (root.path().join("upper"), root.path().join("upper/lower/secret"));
    fs::create_dir_all(upper.join("lower")).expect("makes");
    fs::write(&file, "secret").expect("writes");
    for path in [upper.clone(), upper.join("lower")] {
        chown(&path, Some(OTHER), None).expect("gives it away");
        assert_refused(&file, &["the folder", "belongs to user 65534, who could put another file in its place"]);
        chown(&path, Some(0), None).expect("takes it back");
    }
    assert_read(&file);
}

#[test]
fn links_are_followed_where_nobody_else_had_a_hand_in_them() {
    // As Kubernetes mounts secrets: each file is a link through a link to the folder of the present version.
    let root = folder();
    set_mode(root.path(), 0o1777);
    let versions = root.path().join("..2024_01");
    fs::create_dir(&versions).expect("makes");
    fs::write(versions.join("secret"), "secret").expect("writes");
    symlink("..2024_01", root.path().join("..data")).expect("links");
    symlink("..data/secret", root.path().join("secret")).expect("links");
    assert_read(&root.path().join("secret"));
    // To an absolute path, and up again.
    symlink(root.path().join("..data"), root.path().join("absolute")).expect("links");
    assert_read(&root.path().join("absolute/../secret"));
    // What they lead to is judged like the rest.
    set_mode(&versions, 0o777);
    assert_refused(&root.path().join("secret"), &["other than its owner can write to the folder", "..2024_01`"]);
    // In a circle.
    symlink("circle", root.path().join("circle")).expect("links");
    read(&root.path().join("circle")).err().expect("leads nowhere");
}

#[test]
fn links_of_another_user_are_refused() {
    if !is_root() {
        return;
    }
    let [root, elsewhere] = [folder(), folder()];
    set_mode(root.path(), 0o1777);
    fs::write(elsewhere.path().join("secret"), "secret").expect("writes");
    let (to_file, to_folder) = (root.path().join("file"), root.path().join("folder"));
    symlink(elsewhere.path().join("secret"), &to_file).expect("links");
    symlink(elsewhere.path(), &to_folder).expect("links");
    assert_read(&to_file);
    assert_read(&to_folder.join("secret"));
    for link in [&to_file, &to_folder] {
        lchown(link, Some(OTHER), None).expect("gives it away");
    }
    assert_refused(&to_file, &["the link", "belongs to user 65534", "name the file itself"]);
    assert_refused(&to_folder.join("secret"), &["the link", "belongs to user 65534"]);
    assert_refused(&to_folder.join("new"), &["the link", "belongs to user 65534"]);
    // A link of one's own to where others put files.
    let planted = root.path().join("planted");
    fs::create_dir(&planted).expect("makes");
    fs::write(planted.join("secret"), "secret").expect("writes");
    chown(&planted, Some(OTHER), None).expect("gives it away");
    symlink(planted.join("secret"), root.path().join("own")).expect("links");
    assert_refused(&root.path().join("own"), &["planted belongs to user 65534"]);
}

#[test]
fn only_regular_files_are_read_and_nothing_is_waited_for() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("makes");
    // A FIFO that is swapped in after the first look must not be waited for either, and is seen once it is open.
    let system::Place { folder: parent, .. } = system::Place::find(&at("none")).expect("may be there");
    let error = parent.open("fifo".as_ref()).expect_err("is not a regular file").to_string();
    assert!(error.contains("it must be a regular file"), "{error}");
    let _socket = UnixListener::bind(at("socket")).expect("binds");
    fs::create_dir(at("folder")).expect("makes");
    symlink("/dev/zero", at("device")).expect("links");
    for (name, kind) in [("fifo", "a FIFO"), ("socket", "a socket"), ("folder", "a folder"), ("device", "a device")] {
        assert_refused(&at(name), &["it must be a regular file, and is", kind]);
    }
    assert_refused(&at(".."), &["a folder"]);
    assert_refused(Path::new("/"), &["a folder"]);
}

#[cfg(target_os = "linux")]
#[test]
fn what_proc_calls_a_link_is_followed_by_name_and_not_to_what_is_open() {
    use std::os::fd::AsRawFd;
    let folder = folder();
    let file = folder.path().join("secret");
    fs::write(&file, "secret").expect("writes");
    let opened = File::open(&file).expect("opens");
    let by_number = |number: i32| PathBuf::from(format!("/proc/self/fd/{number}"));
    assert_read(&by_number(opened.as_raw_fd()));
    // The file that is open has no name any more, and what has its name now is another.
    fs::remove_file(&file).expect("removes");
    read(&by_number(opened.as_raw_fd())).err().expect("has no name");
    let (socket, _other) = UnixStream::pair().expect("sockets");
    read(&by_number(socket.as_raw_fd())).err().expect("is not a file");
}

#[test]
fn a_second_name_in_a_shared_folder_is_refused() {
    let [root, elsewhere] = [folder(), folder()];
    let file = root.path().join("secret");
    fs::write(elsewhere.path().join("secret"), "secret").expect("writes");
    fs::hard_link(elsewhere.path().join("secret"), &file).expect("links");
    assert_read(&file);
    set_mode(root.path(), 0o1777);
    assert_refused(&file, &["it has 2 names"]);
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let folder = folder();
    let file = folder.path().join("secret");
    File::create(&file).and_then(|file| file.set_len(LARGEST + 1)).expect("makes");
    let error = read(&file).err().expect("is too large").to_string();
    assert!(error.contains("it has 1048577 bytes"), "{error}");
    File::create(&file).and_then(|file| file.set_len(LARGEST)).expect("makes");
    assert_eq!(read(&file).expect("reads").bytes().len() as u64, LARGEST);
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).expect("reads");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_file_is_made_for_its_owner_alone_and_never_over_another() {
    let folder = folder();
    let file = folder.path().join("secret");
    create(&file, b"secret").expect("writes");
    assert_eq!(fs::metadata(&file).expect("is there").mode() & 0o7777, 0o600);
    assert_read(&file);
    let error = create(&file, b"other").expect_err("is there");
    assert_eq!(error.kind(), Some(io::ErrorKind::AlreadyExists), "{error}");
    assert_read(&file);
    replace(&file, b"another").expect("writes");
    assert_eq!(fs::read(&file).expect("reads"), b"another");
    assert_eq!(fs::metadata(&file).expect("is there").mode() & 0o7777, 0o600);
    assert_eq!(names(&folder), ["secret"], "nothing is left behind");
}

#[test]
fn who_reads_a_file_by_its_group_goes_on_to() {
    if !is_root() {
        return;
    }
    let folder = folder();
    let file = folder.path().join("secret");
    for (mode, after) in [(0o640, 0o640), (0o644, 0o640), (0o600, 0o600)] {
        create(&file, b"other").expect("writes");
        chown(&file, None, Some(OTHER)).expect("changes");
        set_mode(&file, mode);
        replace(&file, b"secret").expect("writes");
        let metadata = fs::metadata(&file).expect("is there");
        assert_eq!(metadata.mode() & 0o7777, after);
        assert_eq!(metadata.gid() == OTHER, after == 0o640);
        fs::remove_file(&file).expect("removes");
    }
}

#[test]
fn a_file_is_written_where_links_lead() {
    let [root, elsewhere] = [folder(), folder()];
    let link = root.path().join("secret");
    symlink(elsewhere.path().join("secret"), &link).expect("links");
    assert!(!exists(&link).expect("may be there"));
    create(&link, b"other").expect("writes");
    replace(&link, b"secret").expect("writes");
    assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
    assert_read(&elsewhere.path().join("secret"));
    assert_eq!((names(&root), names(&elsewhere)), (vec!["secret".to_owned()], vec!["secret".to_owned()]));
}

#[test]
fn a_path_is_any_bytes() {
    let folder = folder();
    let file = folder.path().join(std::ffi::OsStr::from_bytes(b"s\xffcret"));
    create(&file, b"secret").expect("writes");
    assert_read(&file);
    read(&folder.path().join(std::ffi::OsStr::from_bytes(b"a\0b"))).err().expect("is not a name");
    read(Path::new("")).err().expect("is not a path");
}
