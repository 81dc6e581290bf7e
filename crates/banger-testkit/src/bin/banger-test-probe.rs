//! What tests run in guests: says what it was given, byte by byte, and ends as it is told.
#![expect(clippy::print_stdout, clippy::print_stderr, clippy::exit, reason = "a program for tests")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let verb = arguments.first().and_then(|verb| verb.to_str()).unwrap_or_default();
    match verb {
        // Each argument on a line, in hexadecimal.
        "arguments" => {
            for argument in &arguments[1..] {
                argument.as_bytes().iter().for_each(|byte| print!("{byte:02x}"));
                println!();
            }
        }
        "exit" => {
            let code = arguments.get(1).and_then(|code| code.to_str()).and_then(|code| code.parse().ok());
            std::process::exit(code.unwrap_or(99));
        }
        "kill-self" => {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).ok();
        }
        "cat" => {
            let mut buffer = vec![0; 1 << 16];
            loop {
                match std::io::stdin().read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => {
                        if std::io::stdout().write_all(&buffer[..read]).is_err() {
                            std::process::exit(1);
                        }
                    }
                }
            }
        }
        "where" => println!("{}", std::env::current_dir().unwrap_or_default().display()),
        "who" => println!("{}:{}", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
        "variable" => {
            let name = arguments.get(1).cloned().unwrap_or_default();
            std::io::stdout().write_all(std::env::var_os(name).unwrap_or_default().as_bytes()).ok();
            println!();
        }
        // Its own address towards the network; nothing without one.
        "address" => {
            // 192.0.2.0/24 is nobody's (RFC 5737), and connecting a datagram socket sends nothing.
            let socket = UdpSocket::bind("0.0.0.0:0");
            let own = socket.and_then(|it| it.connect("192.0.2.1:9").and_then(|()| it.local_addr()));
            println!("{}", own.map(|own| own.ip().to_string()).unwrap_or_default());
        }
        // An echo server that ends with its standard input; of datagrams, if the address ends with `/udp`.
        "serve" => serve(&address(&arguments)),
        // Sends a line to an echo server, a datagram if the address ends with `/udp`; fails when none comes back.
        "ask" => std::process::exit(i32::from(!ask(&address(&arguments)))),
        // As a VMM is started in a jail: says what it sees there, and waits.
        "--id" => report_of_jail(),
        // Sends a datagram from each of so many ports, one after the other.
        "flood" => flood(&address(&arguments), &arguments),
        // Says that it is there, then waits for ever: for what ends it from outside. With an address, it is
        // that port's owner meanwhile.
        "wait" => {
            let _owned = arguments.get(1).map(|_| listen(&address(&arguments)));
            println!("waiting");
            loop {
                std::thread::park();
            }
        }
        // Sets the clock to another time than it is, by this many seconds.
        "set-clock" => std::process::exit(i32::from(!set_clock(&arguments))),
        "speak" => {
            println!("on standard output");
            eprintln!("on standard error");
        }
        _ => std::process::exit(98),
    }
}

fn address(arguments: &[std::ffi::OsString]) -> String {
    arguments.get(1).map(|address| address.to_string_lossy().into_owned()).unwrap_or_default()
}

fn set_clock(arguments: &[std::ffi::OsString]) -> bool {
    use rustix::time::{ClockId, clock_gettime, clock_settime};
    let seconds: Option<i64> =
        arguments.get(1).and_then(|text| text.to_str()).and_then(|text| text.parse().ok());
    let Some(seconds) = seconds else { return false };
    let mut time = clock_gettime(ClockId::Realtime);
    time.tv_sec += seconds;
    clock_settime(ClockId::Realtime, time).is_ok()
}

fn listen(address: &str) -> TcpListener {
    TcpListener::bind(address).unwrap_or_else(|error| {
        eprintln!("cannot listen on {address}: {error}");
        std::process::exit(1);
    })
}

fn serve(address: &str) {
    match address.strip_suffix("/udp") {
        Some(address) => serve_datagrams(address),
        None => serve_connections(address),
    }
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
}

fn serve_datagrams(address: &str) {
    let socket = UdpSocket::bind(address).unwrap_or_else(|error| {
        eprintln!("cannot listen on {address}: {error}");
        std::process::exit(1);
    });
    println!("serving");
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        loop {
            if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..length], client).ok();
            }
        }
    });
}

fn serve_connections(address: &str) {
    let listener = listen(address);
    println!("serving");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut reader, mut writer) = (&stream, &stream);
                std::io::copy(&mut reader, &mut writer).ok();
            });
        }
    });
}

fn report_of_jail() {
    use std::os::unix::fs::MetadataExt as _;
    let show = |what: &str, done: std::io::Result<String>| match done {
        Ok(said) => println!("{what}: {said}"),
        Err(error) => println!("{what}: {}", error.kind()),
    };
    let write = |path: &str| {
        let file = std::fs::OpenOptions::new().write(true).open(path);
        file.and_then(|mut file| file.write_all(b"written")).map(|()| "written".to_owned())
    };
    let names = std::fs::read_dir("/").map(|entries| {
        let mut names: Vec<_> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names.join(" ")
    });
    let groups = rustix::process::getgroups().unwrap_or_default();
    println!(
        "ids: {} {} {}",
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
        groups.len()
    );
    let capabilities = rustix::thread::capabilities(None).map(|sets| format!("{:?}", sets.effective));
    show("capabilities", capabilities.map_err(Into::into));
    show("root", names);
    show("base", std::fs::read_to_string("/base"));
    show("write base", write("/base"));
    show("write machine.json", write("/machine.json"));
    show("write root", std::fs::write("/new", "").map(|()| "written".to_owned()));
    show("write disk", write("/disk"));
    show("disk's owner", std::fs::metadata("/disk").map(|it| it.uid().to_string()));
    show("kvm's owner", std::fs::metadata("/dev/kvm").map(|it| it.uid().to_string()));
    let socket = std::os::unix::net::UnixListener::bind("/run/api.sock");
    show("socket", socket.as_ref().map(|_| "made".to_owned()).map_err(|error| error.kind().into()));
    println!("waiting");
    loop {
        std::thread::park();
    }
}

fn flood(address: &str, arguments: &[std::ffi::OsString]) {
    let count = arguments.get(2).and_then(|count| count.to_str()).and_then(|count| count.parse().ok());
    for _ in 0..count.unwrap_or(0_u32) {
        if let Ok(socket) = UdpSocket::bind("0.0.0.0:0") {
            // As long as a question for a name.
            socket.send_to(&[0x12; 32], address).ok();
        }
    }
}

fn ask_by_datagram(address: &str, limit: Duration) -> std::io::Result<bool> {
    let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(b"hello\n")?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    Ok(&answer[..length] == b"hello\n")
}

fn ask(address: &str) -> bool {
    let limit = Duration::from_secs(3);
    if let Some(address) = address.strip_suffix("/udp") {
        return ask_by_datagram(address, limit).is_ok_and(|answered| answered);
    }
    let Ok(address) = address.parse() else { return false };
    let Ok(mut stream) = TcpStream::connect_timeout(&address, limit) else { return false };
    let mut answer = [0; 6];
    stream.set_read_timeout(Some(limit)).is_ok()
        && stream.write_all(b"hello\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer == *b"hello\n"
}
