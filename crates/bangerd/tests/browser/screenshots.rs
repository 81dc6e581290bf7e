//! Pictures of every page, for `cargo xtask screenshots`.

use std::path::PathBuf;

use crate::chromium::Theme;
use crate::pages;
use crate::showcase::Showcase;

/// Names the folder that they go to.
const VARIABLE: &str = "BANGER_SCREENSHOTS";
/// Widths that are shown: a phone's, a small laptop's, a wide screen's.
const WIDTHS: [u32; 3] = [390, 1280, 1920];
/// What the README shows, small.
const IN_README: [&str; 2] = ["dashboard", "vm"];

#[test]
#[ignore = "takes pictures, and judges nothing: `cargo xtask screenshots` runs it"]
fn every_page() {
    let folder = PathBuf::from(std::env::var_os(VARIABLE).unwrap_or_else(|| panic!("{VARIABLE} is not set")));
    let showcase =
        Showcase::start("every_page").unwrap_or_else(|| panic!("there is no browser to take pictures with"));
    let browser = &showcase.visitor.browser;
    for page in pages::all(&showcase) {
        page.show(browser);
        if IN_README.contains(&page.name) {
            browser.show_as(Theme::Light, 900, 640);
            let file = folder.join(format!("{}-readme.png", page.name));
            std::fs::write(file, browser.picture()).unwrap();
        }
        for (theme, width) in [Theme::Light, Theme::Dark].into_iter().flat_map(|it| WIDTHS.map(|w| (it, w))) {
            browser.show_as(theme, width, 600);
            let height = browser.run("return document.documentElement.scrollHeight", Vec::new());
            let height = u32::try_from(height.as_u64().unwrap()).unwrap();
            browser.show_as(theme, width, height.max(600));
            let file = folder.join(format!("{}-{}-{width}.png", page.name, theme.name()));
            std::fs::write(file, browser.picture()).unwrap();
        }
    }
}
