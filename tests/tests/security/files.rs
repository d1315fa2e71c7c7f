//! Files of secrets and of trust that others have planted, linked to, or can write to: none lets anybody in.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, lchown, symlink},
    path::{Path, PathBuf},
};

use distribution::{Access, Certificates, Master, NodeEvent, Token, error::GoneReason};
use distribution_tests::{
    process::{Process, example},
    soon,
    trust::{Authority, Purpose},
};
use futures::StreamExt;
use tempfile::TempDir;

use super::{SecureMaster, node, refusal, tells};

/// `nobody`, who plants files here.
const INTRUDER: u32 = 65534;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changes");
}

/// Whether files can be given to others here, which CI must be able to.
fn can_plant() -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let can = chown(folder.path(), Some(INTRUDER), None).is_ok();
    let forced = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(can || !forced, "it takes root to plant files of other users");
    if !can {
        println!("skipped: it takes root to plant files of other users");
    }
    can
}

fn key_of(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".key");
    path.into()
}

/// A token file with its key, both the intruder's, who knows the token.
fn planted(folder: &Path) -> PathBuf {
    let file = folder.join("cluster.token");
    Token::issue(&file, Access::Nodes).expect("writes");
    for path in [&file, &key_of(&file)] {
        chown(path, Some(INTRUDER), Some(INTRUDER)).expect("gives it away");
    }
    file
}

/// A folder that everybody can put files into, as `/tmp` is.
fn shared() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    set_mode(folder.path(), 0o1777);
    folder
}

/// Why a master does not start with this token file, and no token is issued into it.
async fn not_taken_up(file: &Path) -> String {
    let error = Master::builder().token_file(file).bind("127.0.0.1:0").await.expect_err("must not start").to_string();
    println!("{error}");
    Token::issue(file, Access::Nodes).expect_err("must not take it up either");
    error
}

#[tokio::test]
async fn a_token_and_a_key_that_another_user_planted_are_not_taken_up() {
    if !can_plant() {
        return;
    }
    let folder = shared();
    let file = planted(folder.path());
    tells(
        &not_taken_up(&file).await,
        &["cluster.token", "it belongs to user 65534", "may have put it there", "chown 0"],
    );
    // The key alone, of a token that the master would make for it.
    fs::remove_file(&file).expect("removes");
    tells(&not_taken_up(&file).await, &["cluster.token.key", "it belongs to user 65534"]);
    assert!(!file.exists(), "no token was made for the intruder's key");
}

#[tokio::test]
async fn links_that_another_user_planted_are_not_followed() {
    if !can_plant() {
        return;
    }
    let (folder, own) = (shared(), tempfile::tempdir().expect("a folder"));
    let target = own.path().join("cluster.token");
    Token::issue(&target, Access::Nodes).expect("writes");
    let file = folder.path().join("cluster.token");
    for (from, to) in [(&target, &file), (&key_of(&target), &key_of(&file))] {
        symlink(from, to).expect("links");
        lchown(to, Some(INTRUDER), Some(INTRUDER)).expect("gives it away");
    }
    tells(&not_taken_up(&file).await, &["the link", "belongs to user 65534"]);
    // Nor is a secret written to where such a link leads.
    let (target, file) = (own.path().join("new.token"), folder.path().join("new.token"));
    symlink(&target, &file).expect("links");
    lchown(&file, Some(INTRUDER), Some(INTRUDER)).expect("gives it away");
    tells(&not_taken_up(&file).await, &["the link", "belongs to user 65534"]);
    assert!(!target.exists());
    // A link of one's own to what the intruder planted.
    let planted = planted(shared().keep().as_path());
    let link = own.path().join("link.token");
    symlink(&planted, &link).expect("links");
    symlink(key_of(&planted), key_of(&link)).expect("links");
    tells(&not_taken_up(&link).await, &["it belongs to user 65534"]);
    fs::remove_dir_all(planted.parent().expect("a folder")).expect("removes");
}

#[tokio::test]
async fn a_folder_that_others_can_write_to_has_no_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("below/cluster.token");
    fs::create_dir(folder.path().join("below")).expect("makes");
    set_mode(folder.path(), 0o777);
    let advice = format!("`chmod go-w {}`", folder.path().display());
    tells(&not_taken_up(&file).await, &["other than its owner can write to the folder", &advice]);
    assert!(!file.exists() && !key_of(&file).exists());
    set_mode(folder.path(), 0o755);
    let _master = Master::builder().token_file(&file).bind("127.0.0.1:0").await.expect("starts once that is mended");
}

#[tokio::test]
async fn a_fifo_in_place_of_the_token_holds_nothing_up() {
    let folder = shared();
    let file = folder.path().join("cluster.token");
    let made = std::process::Command::new("mkfifo").arg(&file).status().expect("starts");
    assert!(made.success());
    tells(&soon("an error", not_taken_up(&file)).await, &["must be a regular file, and is a FIFO"]);
    let error = refusal(node().token_file(&file), "127.0.0.1:1").await;
    tells(&error, &["must be a regular file, and is a FIFO"]);
}

#[tokio::test]
async fn an_authority_that_anybody_may_write_lets_nobody_in() {
    let [authority, intruders] = [Authority::new("own"), Authority::new("intruder's")];
    let own = authority.issue("master", Purpose::Server, &["localhost"]);
    set_mode(&authority.file(), 0o666);
    let start = |certificates: &Certificates| Master::builder().certificates(certificates.clone()).bind("localhost:0");
    let error = start(&own).await.expect_err("anybody could have written it").to_string();
    tells(&error, &["ca.pem", "other than its owner can write to it", "`chmod go-w "]);
    let mine = authority.issue("n", Purpose::Client, &["n"]);
    tells(
        &refusal(node().certificates(mine), "localhost:1").await,
        &["ca.pem", "other than its owner can write to it"],
    );

    // Nor under a master that runs: it lets in nobody until the file is in order.
    set_mode(&authority.file(), 0o644);
    let secure = SecureMaster { master: start(&own).await.expect("starts"), file: PathBuf::new(), _folder: None };
    set_mode(&authority.file(), 0o666);
    fs::copy(intruders.file(), authority.file()).expect("copies");
    set_mode(&authority.file(), 0o666);
    // The intruder trusts the master by a copy of the authority that vouched for it.
    let trusted = Authority::new("copy");
    fs::write(trusted.file(), authority.pem()).expect("writes");
    intruders.issue("intruder", Purpose::Client, &["intruder"]);
    let shown = Certificates::new(trusted.file(), intruders.path("intruder", "pem"), intruders.path("intruder", "key"));
    let mut intruder = Box::pin(refusal(node().certificates(shown), secure.host()));
    soon("it to be turned away", async {
        while secure.master.stats().turned_away == 0 {
            tokio::select! {
                text = &mut intruder => panic!("nobody is told anything: {text}"),
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    fs::write(authority.file(), authority.pem()).expect("writes");
    set_mode(&authority.file(), 0o644);
    tells(&soon("the refusal", intruder).await, &["does not know the authority"]);
    assert_eq!(secure.master.stats().registration_bytes, 0);
}

#[tokio::test]
async fn a_token_file_that_the_environment_names() {
    let secure = SecureMaster::with_token().await;
    let (program, file) = (example("arith"), secure.file.display().to_string());
    let run = |environment: &[&str]| {
        let address = secure.addr().to_string();
        let program = program.to_str().expect("plain");
        let arguments = [program, "node", "--master", &address, "--name", "by-file"];
        Process::start(Path::new("env"), &[environment, &arguments].concat())
    };
    let by_file = |file: &str| format!("DISTRIBUTION_TOKEN_FILE={file}");
    let _node = run(&[&by_file(&file)]);
    soon("the node", secure.master.wait_for_nodes(1)).await;
    // As a script sets them whose secret was not there.
    for empty in ["DISTRIBUTION_TOKEN=", "DISTRIBUTION_TOKEN= ", "DISTRIBUTION_TOKEN_FILE="] {
        let mut node = run(&[empty]);
        let name = empty.split('=').next().expect("a name");
        tells(&node.log_with("error").await, &[&format!("`{name}` cannot be empty"), "unset it or give it a value"]);
        assert!(!soon("its end", node.ended()).await.success());
    }
    let mut both = run(&[&by_file(&file), &format!("DISTRIBUTION_TOKEN={}", secure.token().expose())]);
    tells(
        &both.log_with("error").await,
        &["DISTRIBUTION_TOKEN_FILE", "beside `DISTRIBUTION_TOKEN`", "only one of the two"],
    );
    assert!(!soon("its end", both.ended()).await.success());
    let mut none = run(&[&by_file(&format!("{file}.none"))]);
    tells(&none.log_with("error").await, &["cluster.token.none", "there is no such file"]);
    assert!(!soon("its end", none.ended()).await.success());
}

#[tokio::test]
async fn certificates_of_another_user_are_not_used() {
    if !can_plant() {
        return;
    }
    let authority = Authority::new("own");
    let own = authority.issue("master", Purpose::Server, &["localhost"]);
    for file in [authority.file(), authority.path("master", "pem"), authority.path("master", "key")] {
        chown(&file, Some(INTRUDER), None).expect("gives it away");
        let error = Master::builder().certificates(own.clone()).bind("localhost:0").await.expect_err("must not start");
        tells(&error.to_string(), &[&file.display().to_string(), "it belongs to user 65534"]);
        chown(&file, Some(0), None).expect("takes it back");
    }
}

#[tokio::test]
async fn a_token_that_is_replaced_by_one_of_the_same_length_and_time_is_worth_nothing() {
    let secure = SecureMaster::with_token().await;
    let mut events = secure.master.events();
    let first = secure.token();
    let text = fs::read_to_string(&secure.file).expect("reads");
    let modified = fs::metadata(&secure.file).and_then(|metadata| metadata.modified()).expect("has a time");
    let _thief =
        soon("the thief", node().name("thief").token(first.expose()).spawn(secure.addr())).await.expect("is let in");
    // Another token of the same key, made beside it.
    let beside = secure.file.with_file_name("beside.token");
    fs::copy(&secure.file, &beside).expect("copies");
    fs::copy(key_of(&secure.file), key_of(&beside)).expect("copies");
    let second = Token::issue(&beside, Access::Nodes).expect("writes");
    // Into the same file, so that length, time and number of it stay as they were.
    fs::write(&secure.file, text.replace(first.expose(), second.expose())).expect("writes");
    let file = fs::File::options().write(true).open(&secure.file).expect("opens");
    file.set_modified(modified).expect("sets it");
    assert_eq!(file.metadata().expect("is there").len(), text.len() as u64);
    soon("the thief to be disconnected", async {
        loop {
            if let NodeEvent::Gone { reason, .. } = events.next().await.expect("the master lives") {
                assert_eq!(reason, GoneReason::Revoked);
                break;
            }
        }
    })
    .await;
    tells(&refusal(node().token(first.expose()), secure.addr()).await, &["rotated out"]);
    let _node = soon("a node", node().token(second.expose()).spawn(secure.addr())).await.expect("is let in");
}

#[tokio::test]
async fn secrets_that_kubernetes_mounts_are_taken_up_and_renewed() {
    // Each file is a link through `..data`, a link to the folder of the present version, which is replaced as one.
    let source = tempfile::tempdir().expect("a folder");
    let file = source.path().join("cluster.token");
    let first = Token::issue(&file, Access::Nodes).expect("writes");
    let mounted = shared();
    let mount = |version: &str| {
        let folder = mounted.path().join(version);
        fs::create_dir(&folder).expect("makes");
        for path in [&file, &key_of(&file)] {
            let copy = folder.join(path.file_name().expect("a name"));
            fs::copy(path, &copy).expect("copies");
            set_mode(&copy, 0o400);
        }
        symlink(version, mounted.path().join("..new")).expect("links");
        fs::rename(mounted.path().join("..new"), mounted.path().join("..data")).expect("renames");
    };
    mount("..2024_01");
    for name in ["cluster.token", "cluster.token.key"] {
        symlink(Path::new("..data").join(name), mounted.path().join(name)).expect("links");
    }
    let at = mounted.path().join("cluster.token");
    let master = Master::builder().token_file(&at).bind("127.0.0.1:0").await.expect("starts");
    assert_eq!(master.token().expect("has one").id(), first.id());
    let second = Token::issue(&file, Access::Nodes).expect("writes");
    mount("..2024_02");
    let node = node().token_file(&at).spawn(master.local_addr());
    let _node = soon("a node", node).await.expect("is let in");
    assert_eq!(master.token().expect("has one").id(), second.id());
}
