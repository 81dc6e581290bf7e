//! Commands: as lines and as arrays.

use banger_types::bytes::ByteString;
use banger_types::image::ImageConfig;
use russh::{ChannelMsg, Sig};

use crate::harness::{Harness, Outcome, words};

#[tokio::test]
async fn an_array_arrives_byte_by_byte() {
    let harness = Harness::new().await;
    let odd: [&[u8]; 7] =
        [b"a b", b"'\"\\", b"line\nbreak", b"\xff\xfe", b"", b"$HOME `id` *", "\u{fc}".as_bytes()];
    let mut argv: Vec<&[u8]> = vec![b"/bin/sh", b"-c", b"printf '%s\\0' \"$@\"", b"sh"];
    argv.extend(odd);
    let outcome = Outcome::of(harness.start_array(&words(&argv)).await).await;
    let expected: Vec<u8> = odd.iter().flat_map(|word| [word, &b"\0"[..]].concat()).collect();
    assert_eq!(outcome.output, expected);
    assert_eq!(outcome.status, Some(0));
    assert!(outcome.eof);
}

#[tokio::test]
async fn variables_directory_and_input_of_an_array() {
    let image = ImageConfig {
        environment: vec!["FROM_IMAGE=image".to_owned(), "BOTH=image".to_owned()],
        working_directory: "/usr".to_owned(),
        ..ImageConfig::default()
    };
    let harness = Harness::with_image(image).await;
    let script = b"pwd; echo $FROM_IMAGE $BOTH $USER; cat";
    let mut request = words(&[b"sh", b"-c", script]);
    request.environment = vec![(ByteString::from("BOTH"), ByteString::from("request"))];
    let channel = harness.start_array(&request).await;
    channel.data(&b"input\n"[..]).await.unwrap();
    channel.eof().await.unwrap();
    let outcome = Outcome::of(channel).await;
    assert_eq!(outcome.text(), "/usr\nimage request tester\ninput\n");

    request = words(&[b"pwd"]);
    request.directory = Some(ByteString::from("/"));
    assert_eq!(Outcome::of(harness.start_array(&request).await).await.text(), "/\n");

    request.directory = Some(ByteString::from("/no/such/directory"));
    let outcome = Outcome::of(harness.start_array(&request).await).await;
    assert_eq!(outcome.status, Some(126));
    assert!(outcome.error_text().contains("/no/such/directory"), "{}", outcome.error_text());

    // A command line starts at home, as scp and rsync expect.
    let home = harness.home.path().canonicalize().unwrap();
    assert_eq!(harness.run("pwd -P").await.text().trim(), home.to_str().unwrap());
}

#[tokio::test]
async fn an_empty_array_is_the_images_command() {
    let image = ImageConfig {
        entrypoint: vec!["/bin/echo".to_owned(), "from".to_owned()],
        command: vec!["the image".to_owned()],
        ..ImageConfig::default()
    };
    let harness = Harness::with_image(image).await;
    assert_eq!(Outcome::of(harness.start_array(&words(&[])).await).await.text(), "from the image\n");
}

#[tokio::test]
async fn exit_codes_and_deaths_come_through() {
    let harness = Harness::new().await;
    for code in [0, 3, 255] {
        assert_eq!(harness.run(&format!("exit {code}")).await.status, Some(code));
    }
    let outcome = harness.run("kill -KILL $$").await;
    assert_eq!(outcome.status, None);
    assert!(matches!(outcome.signal, Some(Sig::KILL)), "{:?}", outcome.signal);
    let outcome = harness.run("kill -USR2 $$").await;
    assert!(matches!(&outcome.signal, Some(Sig::Custom(name)) if name == "USR2"), "{:?}", outcome.signal);
}

#[tokio::test]
async fn what_cannot_be_run_says_why() {
    let harness = Harness::new().await;
    let outcome = Outcome::of(harness.start_array(&words(&[b"no-such-program"])).await).await;
    assert_eq!(outcome.status, Some(127));
    assert_eq!(outcome.error_text(), "banger-guest: no-such-program: not found\n");
    let outcome = Outcome::of(harness.start_array(&words(&[b"/etc"])).await).await;
    assert_eq!(outcome.status, Some(126));
    let channel = harness.session().await;
    channel.request_subsystem(true, "banger-exec").await.unwrap();
    channel.data(&b"nonsense\n"[..]).await.unwrap();
    let outcome = Outcome::of(channel).await;
    assert!(outcome.error_text().contains("not an exec request"), "{outcome:?}");
}

#[tokio::test]
async fn output_and_errors_keep_apart() {
    let outcome = Harness::new().await.run("echo out; echo err >&2; exit 1").await;
    assert_eq!((outcome.text().as_str(), outcome.error_text().as_str()), ("out\n", "err\n"));
}

#[tokio::test]
async fn ten_mebibytes_go_there_and_back() {
    let harness = Harness::new().await;
    let bytes: Vec<u8> = (0..10u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let channel = harness.start("cat").await;
    let (mut reader, writer) = channel.split();
    let sent = bytes.clone();
    let sending = tokio::spawn(async move {
        writer.data(&sent[..]).await.unwrap();
        writer.eof().await.unwrap();
    });
    let mut back = Vec::new();
    let mut status = None;
    while let Some(message) = reader.wait().await {
        match message {
            ChannelMsg::Data { data } => back.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    sending.await.unwrap();
    assert!(back == bytes, "{} bytes came back", back.len());
    assert_eq!(status, Some(0));
}

#[tokio::test]
async fn a_program_that_does_not_read_can_still_write() {
    let harness = Harness::new().await;
    let channel = harness.start("head -c 6000000 /dev/zero; cat > /dev/null; echo end").await;
    let (mut reader, writer) = channel.split();
    let sending = tokio::spawn(async move {
        writer.data(&vec![1; 6_000_000][..]).await.unwrap();
        writer.eof().await.unwrap();
    });
    let mut length = 0;
    while let Some(message) = reader.wait().await {
        match message {
            ChannelMsg::Data { data } => length += data.len(),
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    sending.await.unwrap();
    assert_eq!(length, 6_000_004);
}

#[tokio::test]
async fn a_program_that_ends_without_its_input_ends_the_session() {
    let harness = Harness::new().await;
    let channel = harness.start("exit 5").await;
    // More than any pipe holds: some of it meets a closed one.
    let _ = channel.data(&vec![0; 1 << 20][..]).await;
    assert_eq!(Outcome::of(channel).await.status, Some(5));
}

#[tokio::test]
async fn what_runs_on_in_the_background_holds_nobody_up() {
    let harness = Harness::new().await;
    let outcome = harness.run("sleep 300 & echo $!").await;
    assert_eq!(outcome.status, Some(0));
    let process = rustix::process::Pid::from_raw(outcome.text().trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("it runs on");
}

#[tokio::test]
async fn a_program_starts_with_nothing_but_its_own() {
    const STANDARD_SIGNALS: u64 = (1 << 31) - 1;
    let harness = Harness::new().await;
    let script = "for f in /proc/self/fd/*; do echo ${f##*/}; done; grep -E 'Sig(Blk|Ign)' /proc/self/status";
    let text = harness.run(script).await.text();
    // What this test itself was started with, a session is started with as well; the agent closes it when it starts. And the shell
    // has the directory open while it lists it.
    let inherited = inherited_by_this_test();
    let open = text.lines().map_while(|line| line.parse::<u32>().ok());
    let surplus: Vec<u32> = open.filter(|number| *number > 3 && !inherited.contains(number)).collect();
    assert!(surplus.is_empty(), "{surplus:?}");
    assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
    // Whatever this test ignores, by Rust's doing or that of whoever started it. (Signals above 31 are the C library's own.)
    assert_eq!(ignored(&text) & STANDARD_SIGNALS, 0, "{text}");
}

/// Returns the set of signals that a process's status calls ignored.
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap()
}

/// Returns the descriptors that stay open in what this process starts.
fn inherited_by_this_test() -> Vec<u32> {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let survives = |number: &u32| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags =
            info.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
        flags.is_some_and(|flags| flags & CLOSE_ON_EXEC == 0)
    };
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(survives).collect()
}
