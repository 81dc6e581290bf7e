//! An image of a registry into a VM's root: `banger image pull` against the tools that people have for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use banger_testkit::layers::{Layout, Packing};
use banger_testkit::{Registry, RegistryOptions};

use crate::banger::{Banger, time};
use crate::filesystem::{check, debian_tar, make_ext4, succeed};
use crate::report::{Comparison, Mark, Row};
use crate::rounds::Rounds;
use crate::sample::{Samples, Unit};

const TITLE: &str = "An image of a registry";
/// Most memory that the daemon may have at any time of a pull, KiB.
const MOST_MEMORY: f64 = 64.0 * 1024.0;
/// Most time of a pull of what is here, milliseconds.
const MOST_OF_SECOND: f64 = 100.0;
/// How many layers the tree is in.
const LAYERS: usize = 4;

/// Pulls the same image of the same registry each way, in turns.
pub(crate) fn compare(banger: &Banger, rounds: &Rounds) -> Result<Comparison> {
    if !rustix::process::geteuid().is_root() {
        let mut nothing = Comparison::nothing(TITLE);
        "**Not measured**: only root can unpack a tree with owners and devices for `mke2fs -d`."
            .clone_into(&mut nothing.method);
        return Ok(nothing);
    }
    let registry = Registry::start(RegistryOptions::default());
    let sizes = push_images(banger, &registry)?;
    let place = tempfile::Builder::new().prefix("pull-").tempdir_in(banger.scratch())?;
    let all = All { banger, host: registry.host(), place: place.path().to_owned() };
    let (mut ours, mut twice, mut second) = (Samples::times(), Samples::times(), Samples::times());
    let (mut copy, mut tools, mut memory) =
        (Samples::times(), Samples::times(), Samples::new(Unit::Kibibytes));
    for _ in 0..rounds.filesystem {
        let (elapsed, peak) = all.pull("once")?;
        ours.push(elapsed);
        memory.push_number(peak);
        second.push(all.pull_again("once")?);
        let (copied, whole) = all.copy_unpack_and_make("once")?;
        copy.push(copied);
        tools.push(whole);
        twice.push(all.pull("twice")?.0);
    }
    let [unpacked, packed] = sizes.map(|bytes| bytes / 1_000_000);
    Ok(Comparison {
        title: TITLE.to_owned(),
        method: format!(
            "The tree of the debian image, {unpacked} MB in {LAYERS} layers, {packed} MB with gzip, of a \
             `docker-registry` on loopback. `banger image pull` as a process, nothing of the image being here, until the \
             image is synced; against `skopeo copy` into a layout, `umoci unpack` and `mke2fs -d`, with a sync of the \
             image at the end; and against that `skopeo copy` alone, with a sync of the layout. The large image has every \
             file twice, in twice as many layers. Memory is the daemon's own at its highest (`VmHWM`)."
        ),
        rows: vec![
            Row::of("`banger image pull`", ours.clone())
                .against("`skopeo copy`, `umoci unpack`, `mke2fs -d`", &tools)
                .mark(Mark::TimesAsQuick(5.0)),
            Row::of("`banger image pull`", ours.clone())
                .against("`skopeo copy` alone", &copy)
                .mark(Mark::RatioAtMost(2.5)),
            Row::of("`banger image pull` of the image twice as large", twice)
                .against("of the image", &ours)
                .mark(Mark::RatioAtMost(2.1)),
            Row::of("`banger image pull` of what is here", second).mark(Mark::AtMost(MOST_OF_SECOND)),
            Row::of("the daemon's memory at its highest", memory).mark(Mark::AtMost(MOST_MEMORY)),
        ],
    })
}

/// Puts both images into a registry. Returns the bytes of the smaller one's layers, unpacked and packed.
fn push_images(banger: &Banger, registry: &Registry) -> Result<[u64; 2]> {
    let tar = fs_err::read(debian_tar(banger)?)?;
    let layers = split(&tar, "")?;
    let copies = split(&tar, "copy/")?;
    let place = tempfile::Builder::new().prefix("layout-").tempdir_in(banger.scratch())?;
    let mut layout = Layout::new(place.path().to_owned());
    let config = serde_json::json!({});
    let mut packed = 0;
    for (name, layers) in [("once", layers.clone()), ("twice", [layers.clone(), copies].concat())] {
        let layers: Vec<_> = layers.iter().map(|layer| (layer.as_slice(), Packing::Gzip)).collect();
        let image = layout.image(&layers, &config);
        layout.name(&image, Some(name));
        if name == "once" {
            packed = size_of(&place.path().join("blobs"))?;
        }
        registry.push(place.path(), name, &format!("bench:{name}"));
    }
    Ok([layers.iter().map(|layer| layer.len() as u64).sum(), packed])
}

/// Returns an archive's entries in several archives of about the same size, beneath a directory.
fn split(tar: &[u8], beneath: &str) -> Result<Vec<Vec<u8>>> {
    let mut archives = vec![tar::Builder::new(Vec::new())];
    let most = tar.len() / LAYERS;
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let (mut header, path) = (entry.header().clone(), Path::new(beneath).join(entry.path()?));
        let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
        let last = archives.last_mut().context("no archive")?;
        match link {
            // A hard link leads to a name in the archive, a symbolic one to any.
            Some(link) if header.entry_type().is_hard_link() => {
                last.append_link(&mut header, path, Path::new(beneath).join(link))?;
            }
            Some(link) => last.append_link(&mut header, path, link)?,
            None => last.append_data(&mut header, path, &mut entry)?,
        }
        if last.get_ref().len() > most && archives.len() < LAYERS {
            archives.push(tar::Builder::new(Vec::new()));
        }
    }
    archives.into_iter().map(|archive| Ok(archive.into_inner()?)).collect()
}

fn size_of(directory: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        size += if entry.file_type()?.is_dir() { size_of(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(size)
}

struct All<'a> {
    banger: &'a Banger,
    host: String,
    place: PathBuf,
}

impl All<'_> {
    fn source(&self, tag: &str) -> String {
        format!("docker://{}/bench:{tag}", self.host)
    }

    /// Our way, with nothing of the image here. Returns the daemon's memory at its highest, too, KiB.
    fn pull(&self, tag: &str) -> Result<(Duration, u64)> {
        self.forget()?;
        let pid = self.banger.daemon_pid()?;
        rustix::fs::sync();
        // Begins the highest anew (proc_pid_clear_refs(5)).
        fs_err::write(format!("/proc/{pid}/clear_refs"), "5")?;
        let elapsed = self.pull_again(tag)?;
        let peak = highest(pid)?;
        let shown = self.banger.json(&["image", "show", "pulled", "--json"])?;
        let id = shown["id"].as_str().context("an image without an id")?;
        check(&self.banger.data().join("images").join(id).join("base.ext4"))?;
        Ok((elapsed, peak))
    }

    fn pull_again(&self, tag: &str) -> Result<Duration> {
        let pull = ["image", "pull", &self.source(tag), "--name", "pulled"];
        Ok(self.banger.run(&pull)?.whole)
    }

    /// Takes the image and its layers away.
    fn forget(&self) -> Result<()> {
        let images = self.banger.json(&["image", "ls", "--json"])?;
        let images = images.as_array().context("no list of images")?;
        if images.iter().any(|image| image["name"] == "pulled") {
            self.banger.run(&["image", "rm", "--yes", "pulled"])?;
        }
        for kept in ["layers/sha256", "layers/diff-ids"] {
            for layer in fs_err::read_dir(self.banger.data().join(kept))? {
                fs_err::remove_file(layer?.path())?;
            }
        }
        Ok(())
    }

    /// The other way. Returns the time of the copy alone, with a sync of its own, and of everything without that sync.
    fn copy_unpack_and_make(&self, tag: &str) -> Result<(Duration, Duration)> {
        let (layout, bundle, image) =
            ["layout", "bundle", "image.ext4"].map(|name| self.place.join(name)).into();
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"]).arg(self.source(tag));
        copy.arg(format!("oci:{}:one", layout.display()));
        rustix::fs::sync();
        let copied = time(&mut copy)?.whole;
        let begin = Instant::now();
        rustix::fs::sync();
        let synced = begin.elapsed();
        let mut unpack = Command::new("umoci");
        unpack.arg("unpack").arg("--image").arg(format!("{}:one", layout.display())).arg(&bundle);
        let unpacked = time(&mut unpack)?.whole;
        let made = make_ext4(&bundle.join("rootfs"), &image, size_of(&bundle.join("rootfs"))? * 2)?;
        check(&image)?;
        fs_err::remove_dir_all(layout)?;
        succeed(Command::new("rm").arg("-rf").arg(&bundle))?;
        Ok((copied + synced, copied + unpacked + made))
    }
}

/// Returns the most memory that a process has had, KiB (`VmHWM` of `proc_pid_status(5)`).
fn highest(pid: u64) -> Result<u64> {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a process without memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
