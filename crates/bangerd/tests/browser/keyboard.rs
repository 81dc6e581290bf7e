//! Everything by keys alone.

use banger_testkit::Environment;
use fantoccini::key::Key;
use serde_json::{Value, json};

use crate::chromium::Chromium;
use crate::console::Visitor;
use crate::driver::Scripts;

/// All that keys have to reach, in the order of the page; and which of them has the keyboard, and how that is seen.
const FOCUS: &str = "
const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')].filter((it) =>
  it.tabIndex >= 0 && it.type !== 'hidden' && !it.disabled && it.getClientRects().length > 0);
const name = (it) => it.tagName + ' ' + (it.name || '') + ' ' + (it.getAttribute('aria-label') || it.textContent).trim().slice(0, 40);
const active = document.activeElement;
const style = getComputedStyle(active);
const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== 'none';
const box = active.getBoundingClientRect();
const inView = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
return { all: all.map(name), at: all.indexOf(active), name: name(active), seen: outlined && inView };";

fn focus(browser: &Chromium) -> Value {
    browser.run(FOCUS, Vec::new())
}

/// Presses Tab until something has the keyboard whose name ends with this.
fn tab_to(browser: &Chromium, name: &str) {
    let count = focus(browser)["all"].as_array().unwrap().len();
    for _ in 0..=count {
        browser.press_key(Key::Tab);
        if focus(browser)["name"].as_str().unwrap().ends_with(name) {
            return;
        }
    }
    panic!("keys never reach '{name}': {}", focus(browser));
}

/// Fails unless Tab reaches all of a page, in its order, and shows where it is.
fn walk(visitor: &Visitor, page: &str) {
    let browser = &visitor.browser;
    visitor.open(page);
    let all = focus(browser)["all"].clone();
    let all = all.as_array().unwrap();
    assert!(all.len() > 10, "{page}: {all:?}");
    for (number, name) in all.iter().enumerate() {
        browser.press_key(Key::Tab);
        let focus = focus(browser);
        assert_eq!(focus["at"], json!(number), "{page}: after {number} keys not at {name}: {focus}");
        assert_eq!(focus["seen"], json!(true), "{page}: nobody sees that {name} has the keyboard");
    }
}

#[test]
fn keys_alone_do_everything() {
    let environment = Environment::with_fake_vmm();
    let Some(visitor) = Visitor::start("keys_alone_do_everything", environment, Scripts::On) else { return };
    visitor.create("idle", &["--no-start", "-p", "0:80"]);
    for page in
        ["/", "/create", "/vms/idle", "/vms/idle/delete", "/images", "/catalog", "/pull/image", "/operations"]
    {
        walk(&visitor, page);
    }
    let picker = "/picker?back=/register/image&field=rootfs&kind=any&path=/etc";
    walk(&visitor, picker);
    a_vm_is_made(&visitor);
    a_vm_is_deleted(&visitor);
    the_content_is_reached_at_once(&visitor);
}

fn a_vm_is_made(visitor: &Visitor) {
    let browser = &visitor.browser;
    visitor.open("/");
    tab_to(browser, "Create VM");
    browser.press_key(Key::Enter);
    browser.says(&["The same in a terminal"]);
    tab_to(browser, "INPUT name ");
    browser.type_keys("typed");
    browser.press_key(Key::Tab);
    // A choice by the beginning of what it is called.
    browser.type_keys("prob");
    tab_to(browser, "BUTTON  Create VM");
    browser.press_key(Key::Space);
    browser.wait_for_url("/operations/");
    browser.says(&["succeeded"]);
    tab_to(browser, "VM “typed”");
    browser.press_key(Key::Enter);
    browser.says(&["VM typed", "running"]);
    assert_eq!(visitor.environment.vm("typed")["spec"]["image_name"], "probe");
}

fn a_vm_is_deleted(visitor: &Visitor) {
    let browser = &visitor.browser;
    tab_to(browser, "Delete…");
    browser.press_key(Key::Enter);
    browser.says(&["cannot be undone"]);
    tab_to(browser, "Delete it");
    browser.press_key(Key::Space);
    browser.wait_for_url("/operations/");
    browser.says(&["succeeded"]);
    assert_eq!(visitor.environment.succeed(&["vm", "ls", "-q"]), "idle\n");
}

/// The first key leads past what every page has.
fn the_content_is_reached_at_once(visitor: &Visitor) {
    let browser = &visitor.browser;
    visitor.open("/images");
    browser.press_key(Key::Tab);
    assert_eq!(focus(browser)["name"], "A  Skip to the content");
    browser.press_key(Key::Enter);
    browser.press_key(Key::Tab);
    let at = "return document.getElementById('main').contains(document.activeElement)";
    assert_eq!(browser.run(at, Vec::new()), json!(true));
}
