//! Pages that nothing happens on.

use banger_testkit::Environment;

use crate::console::Visitor;
use crate::driver::Scripts;

/// How long they are watched, milliseconds: longer than anything is asked for again that is looked at while somebody looks.
const WATCHED: u64 = 5_000;

/// How many tabs are open at once: more than a browser has connections to one host.
const TABS: usize = 8;

#[test]
fn eight_tabs_work() {
    let environment = Environment::with_fake_vmm();
    let Some(visitor) = Visitor::start("eight_tabs_work", environment, Scripts::On) else { return };
    visitor.create("web", &[]);
    for tab in 1..=TABS {
        visitor.browser.open_tab();
        visitor.open("/vms/web");
        visitor.browser.says(&["Serial console", "fake guest: ready"]);
        // What happens after it was loaded comes by its stream.
        visitor.guest("web", &format!("print tab {tab}"));
        visitor.browser.says(&[&format!("tab {tab}")]);
    }
}

#[test]
fn nothing_is_asked_while_nothing_changes() {
    let environment = Environment::with_fake_vmm();
    let test = "nothing_is_asked_while_nothing_changes";
    let Some(visitor) = Visitor::start(test, environment, Scripts::On) else { return };
    visitor.create("web", &[]);
    for (page, words) in
        [("/", "Virtual machines"), ("/vms/web", "Serial console"), ("/operations", "create VM")]
    {
        visitor.open(page);
        visitor.browser.says(&[words]);
        // The icon may be loaded late, and is kept.
        let asked = "performance.getEntriesByType('resource').map((it) => it.name).filter((name) => !name.includes('/assets/'))";
        let before = visitor.browser.run(&format!("return {asked}"), Vec::new());
        let later = format!("new Promise((done) => setTimeout(() => done({asked}), {WATCHED}))");
        assert_eq!(visitor.browser.resolve(&later, Vec::new()), before, "{page}");
    }
}
