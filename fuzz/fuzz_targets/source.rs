//! Sources of images: what is read prints as something that reads as the same, whatever path it is given.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use banger_fuzz::seeds;
use banger_types::source::ImageSource;
use libfuzzer_sys::fuzz_target;

const SEEDS: [&[u8]; 10] = [
    b"debian:sid+g+++golang-go+libstdc++-12-dev",
    b"docker://quay.io/a/b:c",
    b"oci:a/b:1.0\n/c:d/a/b",
    b"oci-archive:/a.tar:x/y\n/\xff",
    b"docker-archive:/a.tar:docker.io/library/a:b",
    b"docker-daemon:docker.io/library/a:b",
    b"containers-storage:localhost/a:b",
    b"dir:/a",
    b"tar:/x y",
    b"dockerfile:/src?file=docker/Dockerfile&target=dev&arg=A=1%262&arg=B=x=y\n/a?b",
];

fuzz_target!(init: seeds::plant(SEEDS), |bytes: &[u8]| {
    // A line with a source, and perhaps a path for it to be moved to.
    let (text, path) = match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&bytes[..end], Some(Path::new(OsStr::from_bytes(&bytes[end + 1..])))),
        None => (bytes, None),
    };
    let Ok(text) = str::from_utf8(text) else { return };
    let Ok(mut source) = text.parse::<ImageSource>() else { return };
    assert!(ImageSource::has_transport(text), "{text:?} is a source");
    reads_back(&source);
    if let (Some(path), Some(before)) = (path, source.path().map(Path::to_owned)) {
        let moved = source.set_path(path.to_owned());
        assert_eq!(source.path(), Some(if moved.is_ok() { path } else { &before }));
        reads_back(&source);
    }
});

fn reads_back(source: &ImageSource) {
    let printed = source.to_string();
    assert_eq!(printed.parse().as_ref(), Ok(source), "{printed:?}");
    assert!(ImageSource::has_transport(&printed), "{printed:?} is a source");
}
