//! Turns a root file system tar into an ext4 image and syncs it: what `bench/` measures.
//!
//! `tar_to_ext4 ARCHIVE IMAGE`

use std::path::Path;
use std::process::ExitCode;

use banger_core::work::Unwatched;
use banger_image::archive::{self, Reading};
use banger_image::rootfs::RootfsWriter;
use banger_image::rootfs::ext4::Ext4Writer;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(from), Some(image)) = (arguments.next(), arguments.next()) else {
        return Err("usage: tar_to_ext4 ARCHIVE IMAGE".into());
    };
    let mut writer = Box::new(Ext4Writer::create(Path::new(&image), "banger-base")?);
    archive::read(fs_err::File::open(&from)?, &Reading::default(), writer.as_mut(), &Unwatched)?;
    writer.finish()?;
    fs_err::File::open(&image)?.sync_all()?;
    Ok(ExitCode::SUCCESS)
}
