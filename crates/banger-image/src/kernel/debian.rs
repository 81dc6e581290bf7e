//! Which of Debian's packages is the kernel.

use banger_types::source::PackageName;

/// The package that depends on the newest kernel for virtual machines.
pub const METAPACKAGE: &str = "linux-image-cloud-amd64";
/// How names of kernel packages begin.
const PREFIX: &str = "linux-image-";

/// Whether a package is looked at when the newest kernel is looked for: [`METAPACKAGE`], or what that may depend on.
pub fn is_of_interest(package: &str) -> bool {
    package.starts_with(PREFIX) && package.ends_with("-cloud-amd64")
}

/// Finds the kernel in what [`METAPACKAGE`] depends on: `NAME (= VERSION), …` (Debian Policy 7.1). Returns its name and version.
pub fn dependency(depends: &str) -> Option<(&str, &str)> {
    depends.split(',').find_map(|one| {
        let (name, version) = one.trim().split_once(" (= ")?;
        let is_package = name.parse::<PackageName>().is_ok();
        (is_package && is_of_interest(name)).then_some((name, version.strip_suffix(')')?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_found_behind_its_metapackage() {
        let depends = "linux-base, linux-image-6.1.0-9-cloud-amd64 (= 6.1.1-1)";
        assert_eq!(dependency(depends), Some(("linux-image-6.1.0-9-cloud-amd64", "6.1.1-1")));
        for odd in ["", "linux-base (= 1)", "linux-image-x (= 1)", "linux-image-x-cloud-amd64 (>= 1)", "x"] {
            assert_eq!(dependency(odd), None, "{odd}");
        }
        assert!(is_of_interest(METAPACKAGE));
    }
}
