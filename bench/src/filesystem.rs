//! A root file system tar into an ext4 image: our writer against unpacking and `mke2fs -d`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use banger_testkit::programs;

use crate::banger::{Banger, time};
use crate::report::{Comparison, Mark, Row};
use crate::rounds::Rounds;
use crate::sample::Samples;

const TITLE: &str = "tar to ext4";

/// Makes the same file system both ways, in turns.
pub(crate) fn compare(banger: &Banger, rounds: &Rounds) -> Result<Vec<Comparison>> {
    if !rustix::process::geteuid().is_root() {
        let mut nothing = Comparison::nothing(TITLE);
        "**Not measured**: only root can unpack a tree with owners and devices for `mke2fs -d`."
            .clone_into(&mut nothing.method);
        return Ok(vec![nothing]);
    }
    let archive = debian_tar(banger)?;
    let place = tempfile::Builder::new().prefix("ext4-").tempdir_in(banger.scratch())?;
    let both = Both { archive, place: place.path().to_owned() };
    let (mut ours, mut unpack, mut make, mut sum) =
        (Samples::times(), Samples::times(), Samples::times(), Samples::times());
    for _ in 0..rounds.filesystem {
        ours.push(both.stream()?);
        let (unpacked, made) = both.unpack_and_make()?;
        unpack.push(unpacked);
        make.push(made);
        sum.push(unpacked + made);
    }
    let megabytes = fs_err::metadata(&both.archive)?.len() / 1_000_000;
    Ok(vec![Comparison {
        title: TITLE.to_owned(),
        method: format!(
            "The tree of the debian image, a tar of {megabytes} MB in the page cache. Ours is banger-image's example \
             `tar_to_ext4` as a process. The other is `tar -x` into a directory and `mke2fs -d` of it, without a journal \
             as ours is and with everything lazy that it can leave lazy. Both end with an fsync of the image."
        ),
        rows: vec![
            Row::of("tar → ext4, streamed", ours.clone())
                .against("`tar -x` and `mke2fs -d`", &sum)
                .mark(Mark::TimesAsQuick(2.0)),
            Row::of("tar → ext4, streamed", ours).against("of that, `mke2fs -d` and the sync alone", &make),
            Row::of("of that, `tar -x`", unpack),
        ],
    }])
}

/// Returns a root file system tar of Debian's packages; makes it the first time in a target directory.
pub(crate) fn debian_tar(banger: &Banger) -> Result<PathBuf> {
    let path = banger.scratch().join("debian-bookworm.tar");
    if !path.exists() {
        let partial = banger.scratch().join("debian-bookworm.partial.tar");
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", "--mode=root", "--format=tar"]);
        let packages = banger_image::source::debian::PACKAGES.join(",");
        command.arg(format!("--include={packages}")).arg("bookworm").arg(&partial);
        succeed(&mut command)?;
        fs_err::rename(partial, &path)?;
    }
    // Both sides find it in the page cache.
    std::io::copy(&mut fs_err::File::open(&path)?, &mut std::io::sink())?;
    Ok(path)
}

struct Both {
    archive: PathBuf,
    place: PathBuf,
}

impl Both {
    /// Our way. The example syncs the image itself.
    fn stream(&self) -> Result<Duration> {
        let image = self.image();
        // The writer replaces nothing.
        if image.exists() {
            fs_err::remove_file(&image)?;
        }
        rustix::fs::sync();
        let mut command = Command::new(programs().join("examples/tar_to_ext4"));
        let elapsed = time(command.arg(&self.archive).arg(&image))
            .context("`cargo build -p banger-image --example tar_to_ext4` makes it")?
            .whole;
        check(&image)?;
        Ok(elapsed)
    }

    /// The other way: unpacking, and making the image with its sync.
    fn unpack_and_make(&self) -> Result<(Duration, Duration)> {
        let image = self.image();
        let size = fs_err::metadata(&image)?.len();
        let tree = self.place.join("tree");
        fs_err::create_dir(&tree)?;
        rustix::fs::sync();
        let mut unpack = Command::new("tar");
        unpack
            .arg("-x")
            .arg("-f")
            .arg(&self.archive)
            .arg("-C")
            .arg(&tree)
            .args(["--numeric-owner", "--xattrs"]);
        let unpacked = time(&mut unpack)?.whole;
        // Half as much again as our image: mke2fs wants room for tables that we do not need.
        let made = make_ext4(&tree, &image, size / 2 * 3)?;
        check(&image)?;
        fs_err::remove_dir_all(tree)?;
        Ok((unpacked, made))
    }

    fn image(&self) -> PathBuf {
        self.place.join("image.ext4")
    }
}

/// Makes a file system of so many bytes of a tree, by `mke2fs -d`, and syncs it. Returns how long that took.
pub(crate) fn make_ext4(tree: &Path, image: &Path, size: u64) -> Result<Duration> {
    let begin = Instant::now();
    let file = fs_err::File::create(image)?;
    file.set_len(size)?;
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-O", "^has_journal"]);
    make.args(["-E", "nodiscard,lazy_itable_init=1", "-d"]).arg(tree).arg(image);
    succeed(&mut make)?;
    file.sync_all()?;
    Ok(begin.elapsed())
}

/// What is quick but wrong does not count.
pub(crate) fn check(image: &Path) -> Result<()> {
    succeed(Command::new("e2fsck").arg("-fn").arg(image))
}

pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{command:?} ended with {}\n{}", output.status, String::from_utf8_lossy(&said));
    }
    Ok(())
}
