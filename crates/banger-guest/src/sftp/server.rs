//! Requests and their answers (draft-ietf-secsh-filexfer-02 sections 4, 6 and 7; OpenSSH's PROTOCOL, section 4).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use banger_types::sftp::{VERSION, open_flag, reply, request, status};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};

use super::attributes::{self, Attributes};
use super::files::{Files, Open};
use super::wire::{Malformed, Reader, Writer};

/// Most bytes that one read answers with.
const READ_LIMIT: usize = 255 << 10;
/// Bytes after which an answer with names is long enough.
const NAMES_ENOUGH: usize = 64 << 10;

/// Extensions of OpenSSH (PROTOCOL, section 4) that we serve, with their versions.
const EXTENSIONS: [(&str, &str); 7] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
];

/// Why a request has no better answer: the codes of section 7.
#[derive(Debug)]
enum Status {
    Ok,
    Eof,
    BadMessage,
    Unsupported,
    /// There is no such handle.
    NoHandle,
    Io(io::Error),
}

impl From<Malformed> for Status {
    fn from(_: Malformed) -> Self {
        Self::BadMessage
    }
}

impl From<io::Error> for Status {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Status {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

impl Status {
    fn code(&self) -> u32 {
        match self {
            Self::Ok => status::OK,
            Self::Eof => status::END_OF_FILE,
            Self::Io(error) if error.kind() == io::ErrorKind::NotFound => status::NO_SUCH_FILE,
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => status::PERMISSION_DENIED,
            Self::Io(_) | Self::NoHandle => status::FAILURE,
            Self::BadMessage => status::BAD_MESSAGE,
            Self::Unsupported => status::OPERATION_UNSUPPORTED,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Ok => "done".to_owned(),
            Self::Eof => "end of file".to_owned(),
            Self::BadMessage => "malformed request".to_owned(),
            Self::Unsupported => "unknown request".to_owned(),
            Self::NoHandle => "no such handle".to_owned(),
            Self::Io(error) => error.to_string(),
        }
    }

    fn packet(&self, id: u32) -> Vec<u8> {
        let mut writer = Writer::answer(reply::STATUS, id);
        writer.number(self.code());
        writer.string(self.text().as_bytes());
        writer.string(b"en");
        writer.0
    }
}

/// One client's state.
#[derive(Debug, Default)]
pub(super) struct Server {
    files: Files,
}

/// An answer, or what to say instead of one.
type Answer = Result<Vec<u8>, Status>;

impl Server {
    /// Returns the answer to a packet. Fails when there can be none: the packet has no request number.
    pub(super) fn answer(&mut self, packet: &[u8]) -> io::Result<Vec<u8>> {
        let broken = |_| io::Error::new(io::ErrorKind::InvalidData, "a packet is too short");
        let mut reader = Reader(packet);
        let kind = reader.byte().map_err(broken)?;
        // In INIT this is the client's version. We speak one, and clients take the lower.
        let id = reader.number().map_err(broken)?;
        if kind == request::INIT {
            return Ok(greeting());
        }
        Ok(self.handle(kind, id, reader).unwrap_or_else(|status| status.packet(id)))
    }

    fn handle(&mut self, kind: u8, id: u32, mut reader: Reader<'_>) -> Answer {
        let reader = &mut reader;
        match kind {
            request::OPEN => self.open(id, reader),
            request::CLOSE => {
                if self.files.close(reader.string()?) {
                    Err(Status::Ok)
                } else {
                    Err(Status::NoHandle)
                }
            }
            request::READ => self.read(id, reader),
            request::WRITE => self.write(reader),
            request::LSTAT => Ok(attributes_packet(id, &fs::symlink_metadata(path(reader.string()?))?)),
            request::STAT => Ok(attributes_packet(id, &fs::metadata(path(reader.string()?))?)),
            request::FSTAT => Ok(attributes_packet(id, &self.file(reader)?.0.metadata()?)),
            request::SETSTAT => {
                let name = reader.string()?;
                done(Attributes::read(reader)?.set_on_path(name, true))
            }
            request::FSETSTAT => {
                let handle = reader.string()?;
                let attributes = Attributes::read(reader)?;
                let (file, _) = self.files.file(handle).ok_or(Status::NoHandle)?;
                done(attributes.set_on_file(file))
            }
            request::OPENDIR => self.open_directory(id, reader),
            request::READDIR => self.read_directory(id, reader),
            request::REMOVE => done(rustix::fs::unlink(reader.string()?)),
            request::MKDIR => {
                let name = reader.string()?;
                done(rustix::fs::mkdir(name, Attributes::read(reader)?.mode_or(0o777)))
            }
            request::RMDIR => done(rustix::fs::rmdir(reader.string()?)),
            request::REALPATH => real_path(id, reader.string()?),
            request::RENAME => {
                let (from, to) = (reader.string()?, reader.string()?);
                // In this version a rename never replaces anything (section 6.5).
                done(rustix::fs::renameat_with(CWD, from, CWD, to, rustix::fs::RenameFlags::NOREPLACE))
            }
            request::READLINK => {
                let target = fs::read_link(path(reader.string()?))?;
                Ok(name_packet(id, target.as_os_str().as_bytes()))
            }
            request::SYMLINK => {
                // Target first: not what the draft says, but what OpenSSH does (PROTOCOL, section 4.1), and so everybody.
                let (target, link) = (reader.string()?, reader.string()?);
                done(rustix::fs::symlink(target, link))
            }
            request::EXTENDED => self.extended(id, reader),
            _ => Err(Status::Unsupported),
        }
    }

    fn file(&mut self, reader: &mut Reader<'_>) -> Result<(&File, bool), Status> {
        self.files.file(reader.string()?).ok_or(Status::NoHandle)
    }

    fn open(&mut self, id: u32, reader: &mut Reader<'_>) -> Answer {
        let name = reader.string()?;
        let wanted = reader.number()?;
        let attributes = Attributes::read(reader)?;
        let has = |flag: u32| wanted & flag != 0;
        let mut flags = match (has(open_flag::READ), has(open_flag::WRITE)) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        for (flag, meaning) in [
            (open_flag::APPEND, OFlags::APPEND),
            (open_flag::CREATE, OFlags::CREATE),
            (open_flag::TRUNCATE, OFlags::TRUNC),
            (open_flag::EXCLUSIVE, OFlags::EXCL),
        ] {
            flags.set(meaning, has(flag));
        }
        let file =
            rustix::fs::open(name, flags | OFlags::CLOEXEC | OFlags::NOCTTY, attributes.mode_or(0o666))?;
        self.handle_packet(id, Open::File { file: file.into(), append: has(open_flag::APPEND) })
    }

    fn open_directory(&mut self, id: u32, reader: &mut Reader<'_>) -> Answer {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = Dir::new(rustix::fs::open(reader.string()?, flags, Mode::empty())?)?;
        self.handle_packet(id, Open::Directory(directory))
    }

    fn handle_packet(&mut self, id: u32, open: Open) -> Answer {
        let handle = self.files.add(open).ok_or_else(|| io::Error::from(rustix::io::Errno::MFILE))?;
        let mut writer = Writer::answer(reply::HANDLE, id);
        writer.string(&handle);
        Ok(writer.0)
    }

    fn read(&mut self, id: u32, reader: &mut Reader<'_>) -> Answer {
        let handle = reader.string()?;
        let offset = reader.long()?;
        let length = (reader.number()? as usize).min(READ_LIMIT);
        let (file, _) = self.files.file(handle).ok_or(Status::NoHandle)?;
        let mut data = vec![0; length];
        let mut read = 0;
        while read < length {
            // A short answer means the end to some clients: fill it up where the file goes on.
            match file.read_at(&mut data[read..], offset.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if read == 0 => return Err(error.into()),
                Err(_) => break,
            }
        }
        if read == 0 && length > 0 {
            return Err(Status::Eof);
        }
        let mut writer = Writer::answer(reply::DATA, id);
        writer.string(&data[..read]);
        Ok(writer.0)
    }

    fn write(&mut self, reader: &mut Reader<'_>) -> Answer {
        let handle = reader.string()?;
        let offset = reader.long()?;
        let data = reader.string()?;
        let (mut file, append) = self.files.file(handle).ok_or(Status::NoHandle)?;
        done(if append { io::Write::write_all(&mut file, data) } else { file.write_all_at(data, offset) })
    }

    fn read_directory(&mut self, id: u32, reader: &mut Reader<'_>) -> Answer {
        let Some(Open::Directory(directory)) = self.files.get(reader.string()?) else {
            return Err(Status::NoHandle);
        };
        let mut entries = Writer::default();
        let mut count = 0;
        let mut failure = None;
        while entries.0.len() < NAMES_ENOUGH {
            let name = match directory.read() {
                Some(Ok(entry)) => entry.file_name().to_bytes().to_vec(),
                Some(Err(error)) => {
                    failure = Some(error);
                    break;
                }
                None => break,
            };
            add_entry(&mut entries, directory, &name);
            count += 1;
        }
        match (count, failure) {
            (0, Some(error)) => Err(error.into()),
            (0, None) => Err(Status::Eof),
            _ => {
                let mut writer = Writer::answer(reply::NAME, id);
                writer.number(count);
                writer.0.extend_from_slice(&entries.0);
                Ok(writer.0)
            }
        }
    }

    fn extended(&mut self, id: u32, reader: &mut Reader<'_>) -> Answer {
        match reader.string()? {
            b"posix-rename@openssh.com" => {
                let (from, to) = (reader.string()?, reader.string()?);
                done(rustix::fs::rename(from, to))
            }
            b"hardlink@openssh.com" => {
                let (from, to) = (reader.string()?, reader.string()?);
                done(rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()))
            }
            b"fsync@openssh.com" => done(self.file(reader)?.0.sync_all()),
            b"lsetstat@openssh.com" => {
                let name = reader.string()?;
                done(Attributes::read(reader)?.set_on_path(name, false))
            }
            b"statvfs@openssh.com" => statvfs(id, reader.string()?),
            b"limits@openssh.com" => Ok(limits(id)),
            b"expand-path@openssh.com" => expand(id, reader.string()?),
            _ => Err(Status::Unsupported),
        }
    }
}

/// Answers with success, or with why not.
fn done<E: Into<Status>>(result: Result<(), E>) -> Answer {
    Err(result.map_or_else(Into::into, |()| Status::Ok))
}

fn path(name: &[u8]) -> &Path {
    // Empty is where the client is: at home.
    Path::new(OsStr::from_bytes(if name.is_empty() { b"." } else { name }))
}

fn greeting() -> Vec<u8> {
    let mut writer = Writer::answer(reply::VERSION, VERSION);
    for (name, version) in EXTENSIONS {
        writer.string(name.as_bytes());
        writer.string(version.as_bytes());
    }
    writer.0
}

fn attributes_packet(id: u32, metadata: &fs::Metadata) -> Vec<u8> {
    let mut writer = Writer::answer(reply::ATTRS, id);
    attributes::write(&mut writer, metadata);
    writer.0
}

/// Answers with one name and nothing about it.
fn name_packet(id: u32, name: &[u8]) -> Vec<u8> {
    let mut writer = Writer::answer(reply::NAME, id);
    writer.number(1);
    writer.string(name);
    writer.string(name);
    attributes::write_none(&mut writer);
    writer.0
}

fn add_entry(entries: &mut Writer, directory: &Dir, name: &[u8]) {
    entries.string(name);
    let metadata = directory.fd().ok().and_then(|fd| {
        // Through the open directory: its name may lead elsewhere by now.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        fs::symlink_metadata(Path::new(&path).join(OsStr::from_bytes(name))).ok()
    });
    if let Some(metadata) = metadata {
        entries.string(&attributes::long_name(name, &metadata));
        attributes::write(entries, &metadata);
    } else {
        entries.string(name);
        attributes::write_none(entries);
    }
}

/// Answers with the absolute path. What is not there (yet) is resolved as far as it is: clients ask before they make it.
fn real_path(id: u32, name: &[u8]) -> Answer {
    let wanted = std::path::absolute(path(name))?;
    let mut missing = Vec::new();
    let mut present = wanted.as_path();
    loop {
        match fs::canonicalize(present) {
            Ok(mut real) => {
                real.extend(missing.iter().rev());
                return Ok(name_packet(id, real.as_os_str().as_bytes()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The last part of `/a/..` has no name: such a path is not made, and fails.
                let (Some(parent), Some(last)) = (present.parent(), present.file_name()) else {
                    return Err(error.into());
                };
                missing.push(last);
                present = parent;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Answers with a path whose `~` is the user's home.
fn expand(id: u32, name: &[u8]) -> Answer {
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/".into());
    match name {
        b"~" => real_path(id, home.as_bytes()),
        [b'~', b'/', rest @ ..] => {
            real_path(id, Path::new(&home).join(OsStr::from_bytes(rest)).as_os_str().as_bytes())
        }
        [b'~', ..] => Err(Status::Io(io::Error::other("only one's own home can be asked for"))),
        _ => real_path(id, name),
    }
}

fn statvfs(id: u32, name: &[u8]) -> Answer {
    let info = rustix::fs::statvfs(path(name))?;
    let flags = info.f_flag.bits();
    let mut writer = Writer::answer(reply::EXTENDED_REPLY, id);
    for number in [
        info.f_bsize,
        info.f_frsize,
        info.f_blocks,
        info.f_bfree,
        info.f_bavail,
        info.f_files,
        info.f_ffree,
        info.f_favail,
        info.f_fsid,
        // Read-only is 1 and no-setuid 2, as in the kernel's own flags (PROTOCOL, section 4.3).
        flags & 3,
        info.f_namemax,
    ] {
        writer.long(number);
    }
    Ok(writer.0)
}

fn limits(id: u32) -> Vec<u8> {
    let mut writer = Writer::answer(reply::EXTENDED_REPLY, id);
    writer.long(super::PACKET_LIMIT as u64);
    writer.long(READ_LIMIT as u64);
    // A write's packet has a handle, an offset and two lengths besides its data.
    writer.long(READ_LIMIT as u64);
    // How many files: we do not say.
    writer.long(0);
    writer.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &mut Server, kind: u8, build: impl FnOnce(&mut Writer)) -> (u8, Vec<u8>) {
        let mut writer = Writer::answer(kind, 9);
        build(&mut writer);
        let answer = server.answer(&writer.0).unwrap();
        assert_eq!(answer[1..5], [0, 0, 0, 9]);
        (answer[0], answer[5..].to_vec())
    }

    fn status(server: &mut Server, kind: u8, build: impl FnOnce(&mut Writer)) -> u32 {
        let (kind, body) = ask(server, kind, build);
        assert_eq!(kind, reply::STATUS);
        Reader(&body).number().unwrap()
    }

    #[test]
    fn names_that_are_not_utf8_are_written_listed_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let name = [directory.path().as_os_str().as_bytes(), b"/\xff\xfe"].concat();
        let server = &mut Server::default();
        let (kind, body) = ask(server, request::OPEN, |writer| {
            writer.string(&name);
            writer.number(open_flag::WRITE | open_flag::CREATE);
            writer.number(0);
        });
        assert_eq!(kind, reply::HANDLE);
        let handle = Reader(&body).string().unwrap().to_vec();
        let write = |writer: &mut Writer| {
            writer.string(&handle);
            writer.long(2);
            writer.string(b"data");
        };
        assert_eq!(status(server, request::WRITE, write), 0);
        assert_eq!(status(server, request::CLOSE, |writer| writer.string(&handle)), 0);
        assert_eq!(status(server, request::CLOSE, |writer| writer.string(&handle)), 4);
        assert_eq!(fs::read(path(&name)).unwrap(), b"\0\0data");

        let (_, body) =
            ask(server, request::OPENDIR, |writer| writer.string(directory.path().as_os_str().as_bytes()));
        let handle = Reader(&body).string().unwrap().to_vec();
        let (kind, body) = ask(server, request::READDIR, |writer| writer.string(&handle));
        assert_eq!(kind, reply::NAME);
        assert!(body.windows(6).any(|window| window == b"\0\0\0\x02\xff\xfe"));
        assert_eq!(status(server, request::READDIR, |writer| writer.string(&handle)), 1);
        assert_eq!(status(server, request::REMOVE, |writer| writer.string(&name)), 0);
        assert_eq!(status(server, request::REMOVE, |writer| writer.string(&name)), 2);
    }

    #[test]
    fn a_plain_rename_replaces_nothing_and_a_posix_one_does() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        let names = |writer: &mut Writer| {
            writer.string(from.as_os_str().as_bytes());
            writer.string(to.as_os_str().as_bytes());
        };
        let server = &mut Server::default();
        assert_eq!(status(server, request::RENAME, names), 4);
        let posix = |writer: &mut Writer| {
            writer.string(b"posix-rename@openssh.com");
            names(writer);
        };
        assert_eq!(status(server, request::EXTENDED, posix), 0);
        assert_eq!(fs::read(&to).unwrap(), b"new");
    }

    #[test]
    fn a_path_that_is_not_there_yet_is_resolved_as_far_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        let wanted = real.join("link/new/file");
        let (_, body) = ask(&mut Server::default(), request::REALPATH, |writer| {
            writer.string(wanted.as_os_str().as_bytes());
        });
        let mut reader = Reader(&body);
        assert_eq!(reader.number(), Ok(1));
        assert_eq!(reader.string().unwrap(), real.join("new/file").as_os_str().as_bytes());
    }

    #[test]
    fn nonsense_is_answered_and_does_no_harm() {
        let server = &mut Server::default();
        assert_eq!(status(server, 99, |_| ()), 8);
        assert_eq!(status(server, request::OPEN, |writer| writer.number(u32::MAX)), 5);
        assert_eq!(
            status(server, request::READ, |writer| {
                writer.string(b"1234");
                writer.long(0);
                writer.number(u32::MAX);
            }),
            4
        );
        assert_eq!(status(server, request::EXTENDED, |writer| writer.string(b"nope@example.com")), 8);
        assert!(server.answer(&[3, 0]).is_err());
    }
}
