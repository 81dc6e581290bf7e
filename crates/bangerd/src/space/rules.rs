//! What may go. Pure: whoever asks knows what there is, and takes it away.

use std::collections::BTreeSet;

use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::{ImageId, KernelId};
use jiff::{SignedDuration, Timestamp};

/// What was not used for so long goes by itself, seconds, unless another age is asked for.
const LONG: u64 = 7 * 24 * 3600;

/// What somebody wants to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Whatever nobody uses.
    pub(super) all: bool,
    /// Nothing that is younger, seconds.
    pub(super) older_than: Option<u64>,
    /// How many of the newest versions of each name stay.
    pub(super) keep: usize,
    pub(super) now: Timestamp,
}

/// What uses images and kernels.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// Images of VMs.
    pub(super) images: BTreeSet<ImageId>,
    /// Kernels of VMs.
    pub(super) kernels: BTreeSet<KernelId>,
    /// The name of the kernel of VMs for which none is named.
    pub(super) default_kernel: String,
}

impl Rules {
    /// Everything that nobody uses.
    pub(super) fn everything(now: Timestamp) -> Self {
        Self { all: true, older_than: None, keep: 0, now }
    }

    fn is_old(&self, created_at: Timestamp, limit: u64) -> bool {
        let limit = SignedDuration::from_secs(i64::try_from(limit).unwrap_or(i64::MAX));
        self.now.duration_since(created_at) >= limit
    }

    /// Whether something goes that can be had again and was last used then.
    pub(super) fn takes_cached(&self, used_at: Timestamp) -> bool {
        let usual = if self.all { 0 } else { LONG };
        self.is_old(used_at, self.older_than.unwrap_or(usual))
    }

    /// Returns the images that go.
    pub(super) fn images<'a>(&self, images: &'a [Image], uses: &Uses) -> Vec<&'a Image> {
        let things: Vec<_> = images.iter().map(Thing::of_image).collect();
        let is_used = |image: &Image| uses.images.contains(&image.id);
        let goes = |(image, thing): &(&Image, &Thing<'_>)| !is_used(image) && self.takes(thing, &things);
        images.iter().zip(&things).filter(goes).map(|(image, _)| image).collect()
    }

    /// Returns the kernels that go, if these images are those that stay.
    pub(super) fn kernels<'a>(
        &self,
        kernels: &'a [Kernel],
        staying: &[&Image],
        uses: &Uses,
    ) -> Vec<&'a Kernel> {
        let things: Vec<_> = kernels.iter().map(Thing::of_kernel).collect();
        let is_used = |kernel: &Kernel| {
            let is_of = |image: &&Image| {
                let registered = image.registered.as_ref().and_then(|files| files.kernel.as_ref());
                registered == Some(&kernel.id) || image.kernel.as_ref() == Some(&kernel.name)
            };
            uses.kernels.contains(&kernel.id)
                || uses.default_kernel == kernel.name
                || staying.iter().any(is_of)
        };
        let goes = |(kernel, thing): &(&Kernel, &Thing<'_>)| !is_used(kernel) && self.takes(thing, &things);
        kernels.iter().zip(&things).filter(goes).map(|(kernel, _)| kernel).collect()
    }

    /// Whether something goes that nobody uses.
    fn takes(&self, thing: &Thing<'_>, others: &[Thing<'_>]) -> bool {
        let is_newer = |other: &&Thing<'_>| other.base == thing.base && other.created_at > thing.created_at;
        let newer = others.iter().filter(is_newer).count();
        // Files of the user's own are named here, and nowhere else.
        let is_wanted = !thing.is_superseded && (!self.all || thing.is_registered);
        !is_wanted && newer >= self.keep && self.is_old(thing.created_at, self.older_than.unwrap_or(0))
    }
}

/// What an image and a kernel have in common.
struct Thing<'a> {
    /// The name that it has, or had until a newer one came.
    base: &'a str,
    is_superseded: bool,
    is_registered: bool,
    created_at: Timestamp,
}

impl<'a> Thing<'a> {
    fn of_image(image: &'a Image) -> Self {
        Self::new(&image.name, image.id.as_str(), image.registered.is_some(), image.created_at)
    }

    fn of_kernel(kernel: &'a Kernel) -> Self {
        Self::new(&kernel.name, kernel.id.as_str(), kernel.registered.is_some(), kernel.created_at)
    }

    fn new(name: &'a str, id: &str, is_registered: bool, created_at: Timestamp) -> Self {
        // `Image::version_name`, `Kernel::version_name`.
        let base = name.strip_suffix(id).and_then(|name| name.strip_suffix('@'));
        Self { base: base.unwrap_or(name), is_superseded: base.is_some(), is_registered, created_at }
    }
}

#[cfg(test)]
mod tests {
    use banger_types::image::ImageConfig;

    use super::*;

    fn image(name: &str, number: u32, hours: i64) -> Image {
        let id: ImageId = format!("{number:012x}").parse().unwrap();
        Image {
            name: name.replace("ID", id.as_str()),
            id,
            source: String::new(),
            digest: None,
            size: 0,
            disk_usage: 0,
            created_at: Timestamp::UNIX_EPOCH - SignedDuration::from_hours(hours),
            config: ImageConfig::default(),
            layers: Vec::new(),
            kernel: Some("mine".to_owned()),
            registered: None,
            problem: None,
        }
    }

    fn kernel(name: &str, number: u32) -> Kernel {
        Kernel {
            id: format!("{number:012x}").parse().unwrap(),
            name: name.to_owned(),
            source: String::new(),
            release: String::new(),
            version: String::new(),
            disk_usage: 0,
            created_at: Timestamp::UNIX_EPOCH,
            features: Vec::new(),
            registered: None,
            problem: None,
        }
    }

    const USUAL: Rules = Rules { all: false, older_than: None, keep: 0, now: Timestamp::UNIX_EPOCH };

    fn named(rules: Rules, images: &[Image], uses: &Uses) -> Vec<u32> {
        let number = |image: &&Image| u32::from_str_radix(image.id.as_str(), 16).unwrap();
        rules.images(images, uses).iter().map(number).collect()
    }

    #[test]
    fn versions_go_and_with_all_whatever_nobody_uses() {
        let images = [image("a", 1, 1), image("a@ID", 2, 2), image("a@ID", 3, 3), image("b", 4, 4)];
        let uses = Uses { images: BTreeSet::from([images[2].id.clone()]), ..Uses::default() };
        assert_eq!(named(USUAL, &images, &uses), [2]);
        let all = Rules { all: true, ..USUAL };
        assert_eq!(named(all, &images, &uses), [1, 2, 4]);
        assert_eq!(named(Rules { keep: 1, ..all }, &images, &uses), [2]);
        assert_eq!(named(Rules { keep: 2, ..all }, &images, &Uses::default()), [3]);
        assert_eq!(named(Rules { older_than: Some(2 * 3600), ..all }, &images, &uses), [2, 4]);
        assert!(named(Rules { older_than: Some(u64::MAX), ..all }, &images, &uses).is_empty());
    }

    #[test]
    fn a_kernel_stays_for_its_vms_its_images_and_as_the_default() {
        let kernels = ["vm", "mine", "usual", "nobody"].map(|name| kernel(name, 1));
        let [vm, ..] = &kernels;
        let kernels = [
            Kernel { id: "00000000000a".parse().unwrap(), ..vm.clone() },
            kernels[1].clone(),
            kernels[2].clone(),
            kernels[3].clone(),
        ];
        let uses = Uses {
            kernels: BTreeSet::from([kernels[0].id.clone()]),
            default_kernel: "usual".to_owned(),
            ..Uses::default()
        };
        let image = image("a", 1, 1);
        let all = Rules { all: true, ..USUAL };
        let going = |rules: Rules, staying: &[&Image]| -> Vec<String> {
            rules.kernels(&kernels, staying, &uses).iter().map(|kernel| kernel.name.clone()).collect()
        };
        assert_eq!(going(all, &[&image]), ["nobody"]);
        assert_eq!(going(all, &[]), ["mine", "nobody"]);
        assert!(going(USUAL, &[]).is_empty(), "none of them was superseded");
    }

    #[test]
    fn what_can_be_had_again_goes_when_it_was_not_used_for_long() {
        let used = |hours| Timestamp::UNIX_EPOCH - SignedDuration::from_hours(hours);
        assert!(USUAL.takes_cached(used(7 * 24)) && !USUAL.takes_cached(used(7 * 24 - 1)));
        assert!(Rules { all: true, ..USUAL }.takes_cached(used(0)));
        let day = Rules { all: true, older_than: Some(24 * 3600), ..USUAL };
        assert!(day.takes_cached(used(24)) && !day.takes_cached(used(23)));
    }
}
