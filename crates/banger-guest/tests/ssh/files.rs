//! SFTP, with our own binary as the server.

use russh_sftp::client::SftpSession;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::Harness;

async fn open(harness: &Harness) -> SftpSession {
    let channel = harness.session().await;
    channel.request_subsystem(true, "sftp").await.unwrap();
    SftpSession::new(channel.into_stream()).await.unwrap()
}

#[tokio::test]
async fn files_go_both_ways() {
    let harness = Harness::new().await;
    let sftp = open(&harness).await;
    let home = harness.home.path().canonicalize().unwrap();
    assert_eq!(sftp.canonicalize(".").await.unwrap(), home.to_str().unwrap());
    let bytes: Vec<u8> = (0..3u32 << 20).map(|n| n.wrapping_mul(40_503).to_be_bytes()[2]).collect();
    let mut file = sftp.create("file").await.unwrap();
    file.write_all(&bytes).await.unwrap();
    file.shutdown().await.unwrap();
    assert!(std::fs::read(home.join("file")).unwrap() == bytes);
    let mut back = Vec::new();
    sftp.open("file").await.unwrap().read_to_end(&mut back).await.unwrap();
    assert!(back == bytes, "{} bytes came back", back.len());
    assert_eq!(sftp.metadata("file").await.unwrap().size, Some(bytes.len() as u64));
}

#[tokio::test]
async fn directories_links_and_names() {
    let harness = Harness::new().await;
    let sftp = open(&harness).await;
    sftp.create_dir("d").await.unwrap();
    for number in 0..1500 {
        std::fs::write(harness.home.path().join(format!("d/{number}")), "").unwrap();
    }
    assert_eq!(sftp.read_dir("d").await.unwrap().count(), 1500);
    sftp.rename("d/7", "seven").await.unwrap();
    assert!(sftp.rename("d/8", "seven").await.is_err(), "nothing is replaced");
    assert!(sftp.symlink_metadata("seven").await.unwrap().is_regular());
    sftp.remove_file("seven").await.unwrap();
    assert!(!sftp.try_exists("seven").await.unwrap());
    assert!(sftp.remove_dir("d").await.is_err(), "it is not empty");
    assert!(sftp.read_dir("nowhere").await.is_err());
}
