//! What a master says to connections for which it has no place.

use distribution::Master;
use distribution_tests::{
    impostor::{preface, take_number},
    soon,
};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// What a master says to one more connection than it has room for.
async fn told(master: &Master) -> Vec<u8> {
    let _silent = TcpStream::connect(master.local_addr()).await.expect("connects");
    let mut newcomer = TcpStream::connect(master.local_addr()).await.expect("connects");
    let mut told = Vec::new();
    soon("to be told", newcomer.read_to_end(&mut told)).await.expect("reads");
    told
}

#[tokio::test]
async fn a_connection_for_which_there_is_no_place_is_told_when_to_try_again() {
    let master = Master::builder().max_handshakes(1).bind("127.0.0.1:0").await.expect("binds");
    let told_openly = told(&master).await;
    let (theirs, answer) = told_openly.split_at(32);
    assert_eq!(theirs, preface(1, 0));
    let mut answer = &answer[4..];
    assert_eq!(take_number(&mut answer), 2, "busy");
    assert!((100_000..40_000_000).contains(&take_number(&mut answer)), "a time in microseconds");

    let folder = tempfile::tempdir().expect("a folder");
    let master = Master::builder().max_handshakes(1).token_file(folder.path().join("token"));
    let master = master.bind("127.0.0.1:0").await.expect("binds");
    let alert = told(&master).await;
    assert_eq!(alert[..6], [21, 3, 3, 0, 2, 2], "a TLS alert");
    assert!(alert[6] >= 192, "of those that TLS leaves free");
}
