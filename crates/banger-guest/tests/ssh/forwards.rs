//! Forwarded connections, both ways, and the client's agent.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::harness::{Harness, Outcome, read_until};

async fn echo_server() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                writer.shutdown().await.unwrap();
            });
        }
    });
    port
}

async fn assert_echoes(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let bytes = vec![7; 300_000];
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let writing = async {
        writer.write_all(&bytes).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let ((), read) = tokio::join!(writing, reader.read_to_end(&mut back));
    read.unwrap();
    assert!(back == bytes, "{} bytes came back", back.len());
}

#[tokio::test]
async fn a_connection_from_the_client_into_the_guest() {
    let harness = Harness::new().await;
    let port = echo_server().await;
    for host in ["127.0.0.1", "localhost"] {
        let channel =
            harness.client.channel_open_direct_tcpip(host, u32::from(port), "127.0.0.1", 1).await.unwrap();
        assert_echoes(channel.into_stream()).await;
    }
    // A port that was just free, and that nobody listens on.
    let unused = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    for (host, port) in [("127.0.0.1", u32::from(unused)), ("no.such.host", 80), ("127.0.0.1", 70_000)] {
        let refused = harness.client.channel_open_direct_tcpip(host, port, "127.0.0.1", 1).await;
        assert!(refused.is_err(), "{host}:{port}");
    }
}

#[tokio::test]
async fn a_connection_from_the_guest_to_the_client() {
    let harness = Harness::new().await;
    let port = harness.client.tcpip_forward("127.0.0.1", 0).await.unwrap();
    let port = u16::try_from(port).unwrap();
    assert_echoes(TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await;
    harness.client.cancel_tcpip_forward("127.0.0.1", u32::from(port)).await.unwrap();
    // The port can be had again once the guest has given it up. (A connection that is refused would prove no more, and might be
    // taken by another test's listener.)
    let free = async {
        while TcpListener::bind(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, free).await.expect("it listens no more");
}

#[tokio::test]
async fn the_clients_agent_is_a_socket_of_the_user() {
    use std::os::unix::fs::MetadataExt as _;
    let harness = Harness::new().await;
    let mut channel = harness.session().await;
    channel.agent_forward(true).await.unwrap();
    channel.exec(true, "echo \"$SSH_AUTH_SOCK\"; cat").await.unwrap();
    let text = read_until(&mut channel, "\n").await;
    let socket = std::path::Path::new(text.trim()).to_owned();
    let directory = std::fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!(directory.mode() & 0o777, 0o700);
    assert_eq!(directory.uid(), rustix::process::geteuid().as_raw());
    assert_echoes(UnixStream::connect(&socket).await.unwrap()).await;
    channel.eof().await.unwrap();
    assert_eq!(Outcome::of(channel).await.status, Some(0));
    assert_eq!(harness.run("echo \"[$SSH_AUTH_SOCK]\"").await.text(), "[]\n", "only who asked gets it");
    drop(harness);
    let gone = async {
        while socket.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, gone).await.expect("it goes with the connection");
}
