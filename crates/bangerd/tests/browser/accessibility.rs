//! Every page, as people see it who see little, or nothing, or only a phone; and whether it is HTML at all.

use std::path::Path;
use std::process::Command;

use banger_testkit::{not_run, npm_packages};
use serde_json::{Value, json};

use crate::chromium::{Chromium, Theme};
use crate::pages;
use crate::showcase::Showcase;

/// What axe-core looks for: WCAG 2.2 AA, and what its makers advise beyond.
const RULES: [&str; 6] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
/// What may change with the theme.
const RULES_OF_COLOUR: [&str; 2] = ["color-contrast", "link-in-text-block"];
/// Widths that are tried: a phone's and a small laptop's.
const WIDTHS: [u32; 2] = [390, 1280];
/// What html-validate is to look for.
const RULES_OF_HTML: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/npm/htmlvalidate.mjs");

#[test]
fn every_page_is_for_everybody_and_is_html() {
    let test = "every_page_is_for_everybody_and_is_html";
    let Some(packages) = npm_packages() else {
        not_run(test, "BANGER_BROWSER_NPM does not name npm's packages; `cargo xtask test` installs them");
        return;
    };
    let Some(showcase) = Showcase::start(test) else { return };
    let browser = &showcase.visitor.browser;
    let axe = std::fs::read_to_string(packages.join("node_modules/axe-core/axe.min.js")).unwrap();
    let served = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    for page in pages::all(&showcase) {
        let html = page.show(browser);
        std::fs::write(served.path().join(page.name).with_extension("html"), html).unwrap();
        browser.run(&axe, Vec::new());
        for width in WIDTHS {
            browser.show_as(Theme::Light, width, 900);
            let found = judge(browser, &json!(RULES)).into_iter().chain(overflow(browser));
            faults.extend(found.map(|fault| format!("{} at {width}: {fault}", page.name)));
            browser.show_as(Theme::Dark, width, 900);
            let colours = json!({ "type": "rule", "values": RULES_OF_COLOUR });
            faults.extend(
                judge(browser, &colours).iter().map(|fault| format!("{} in the dark: {fault}", page.name)),
            );
        }
    }
    faults.extend(validate(&packages, served.path()));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert_judges(browser);
}

/// Returns what axe-core finds wrong with the page that is shown, by these rules.
fn judge(browser: &Chromium, rules: &Value) -> Vec<String> {
    let run = "axe.run(document, { runOnly: arguments[0], resultTypes: ['violations'] }).then((found) => found.violations)";
    let found = browser.resolve(run, vec![rules.clone()]);
    let violations = found.as_array().unwrap_or_else(|| panic!("axe-core did not run: {found}"));
    violations.iter().map(describe).collect()
}

fn describe(violation: &Value) -> String {
    let nodes = violation["nodes"].as_array().unwrap();
    let places: Vec<String> = nodes.iter().take(3).map(|node| node["html"].to_string()).collect();
    format!("{}: {} ({} places: {})", violation["id"], violation["help"], nodes.len(), places.join(" "))
}

/// Returns what makes a page wider than the screen, if it is.
fn overflow(browser: &Chromium) -> Option<String> {
    let script = "const width = document.documentElement.clientWidth;
        if (document.documentElement.scrollWidth <= width) return null;
        const wide = [...document.querySelectorAll('main *')].filter((it) =>
          it.getBoundingClientRect().right > width && !it.closest('.scroll > *'));
        return 'wider than the screen: ' + wide.slice(0, 3).map((it) => it.outerHTML.slice(0, 120)).join(' ');";
    browser.run(script, Vec::new()).as_str().map(str::to_owned)
}

/// Fails unless what judges finds what is wrong for certain.
fn assert_judges(browser: &Chromium) {
    browser.run("document.documentElement.removeAttribute('lang')", Vec::new());
    let found = judge(browser, &json!(RULES));
    assert!(found.iter().any(|fault| fault.contains("html-has-lang")), "{found:?}");
    browser.run("document.querySelector('main').style.width = '5000px'", Vec::new());
    assert!(overflow(browser).is_some());
}

/// Returns what html-validate finds wrong with the files of a folder, if it does.
fn validate(packages: &Path, served: &Path) -> Option<String> {
    let program = packages.join("node_modules/html-validate/bin/html-validate.mjs");
    let mut validate = Command::new("node");
    validate.arg(program).args(["--config", RULES_OF_HTML, "--formatter=text"]).arg(served);
    let output = validate.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then(|| said.into_owned())
}
