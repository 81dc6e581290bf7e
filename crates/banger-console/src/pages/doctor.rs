//! Is this host ready? Each check says what it has found, and what to do.

use banger_types::catalog::Catalog;
use banger_types::engine::EngineStatus;
use banger_types::helper::HelperReadiness;
use banger_types::image::Image;
use banger_types::size::binary_bytes;
use banger_types::system::{HostResources, SystemStatus};
use maud::{Markup, html};

use crate::answer::Answer;
use crate::layout::{Page, badge, capital, commands};
use crate::visit::Visit;

/// Less than this free is a warning, bytes: an image and a VM want some.
const LITTLE: u64 = 4 << 30;

/// What a check came to.
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    fix: Option<String>,
}

enum Verdict {
    Good,
    Warning,
    Failure,
}

/// `GET /doctor`
pub(crate) async fn show(visit: Visit) -> Answer {
    let client = visit.client();
    let (system, engines, resources, catalog, images) = tokio::try_join!(
        client.system(),
        client.engines(),
        client.resources(),
        client.catalog(),
        client.images()
    )?;
    let mut checks = engine_checks(&system, &engines);
    checks.push(helper(&system.helper));
    checks.push(space(&resources));
    checks.push(default_image(&catalog, &images));
    checks.extend(unknown(&system));
    checks.extend(console(&system));
    let body = html! {
        section {
            div.scroll tabindex="0" role="region" aria-label="Checks" {
                table {
                    thead { tr { th scope="col" { "Check" } th scope="col" { "Verdict" } th scope="col" { "What was found" } } }
                    tbody { @for check in &checks { (row(check)) } }
                }
            }
        }
        p.hint { "Reload the page to look anew." }
    };
    Ok(Page::new("Doctor", body).answer(&visit))
}

fn row(check: &Check) -> Markup {
    html! {
        tr {
            th scope="row" { (check.name) }
            td {
                @match check.verdict {
                    Verdict::Good => (badge("✓", "good", "good")),
                    Verdict::Warning => (badge("⚠", "warn", "warning")),
                    Verdict::Failure => (badge("✕", "bad", "failure")),
                }
            }
            td {
                p { (capital(&check.found)) }
                @if let Some(fix) = &check.fix { p.hint { "What to do: " (commands(fix)) } }
            }
        }
    }
}

fn engine_checks(system: &SystemStatus, engines: &[EngineStatus]) -> Vec<Check> {
    let any = engines.iter().any(|engine| engine.problem.is_none());
    let emulates = system.engine.contains("emulation");
    let mut checks = vec![Check {
        name: "Engine of new VMs",
        verdict: match (any, emulates) {
            (false, _) => Verdict::Failure,
            (true, true) => Verdict::Warning,
            (true, false) => Verdict::Good,
        },
        found: system.engine.clone(),
        fix: emulates.then(|| "`ls -l /dev/kvm` says who may use KVM, if the host has it".to_owned()),
    }];
    checks.extend(engines.iter().map(|engine| {
        let version = engine.version.clone().unwrap_or_default();
        let program = engine.program.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        Check {
            name: match engine.kind {
                banger_types::vm::EngineKind::Firecracker => "Firecracker",
                banger_types::vm::EngineKind::Qemu => "QEMU",
            },
            // One is enough.
            verdict: match (&engine.problem, any) {
                (None, _) => Verdict::Good,
                (Some(_), true) => Verdict::Warning,
                (Some(_), false) => Verdict::Failure,
            },
            found: engine.problem.clone().unwrap_or_else(|| format!("{version}, {program}")),
            fix: engine.fix.clone(),
        }
    }));
    checks
}

fn helper(helper: &HelperReadiness) -> Check {
    let fix = match helper {
        HelperReadiness::Ready => None,
        HelperReadiness::NeedsPassword => Some(
            "let sudo run it without one, as the README says; without it, all but VMs' own addresses works",
        ),
        HelperReadiness::NotInstalled(_) | HelperReadiness::WrongVersion(_) => Some(
            "the README says how root puts it in its place; without it, all but VMs' own addresses works",
        ),
        HelperReadiness::Insecure(_) => Some("let root put it in its place anew, as the README says"),
    };
    Check {
        name: "Root helper, by sudo",
        verdict: match helper {
            HelperReadiness::Ready => Verdict::Good,
            HelperReadiness::Insecure(_) => Verdict::Failure,
            _ => Verdict::Warning,
        },
        found: helper.to_string(),
        fix: fix.map(str::to_owned),
    }
}

fn space(resources: &HostResources) -> Check {
    let free = resources.disk_available;
    Check {
        name: "Room for data",
        verdict: match free {
            Some(free) if free >= LITTLE => Verdict::Good,
            _ => Verdict::Warning,
        },
        found: free.map_or_else(|| "not told".to_owned(), |free| format!("{} are free", binary_bytes(free))),
        fix: free
            .is_some_and(|free| free < LITTLE)
            .then(|| "`banger system prune` takes away what nobody uses".to_owned()),
    }
}

fn default_image(catalog: &Catalog, images: &[Image]) -> Check {
    let default = catalog.images.iter().find(|entry| entry.is_default);
    let here =
        default.is_some_and(|entry| entry.is_here || images.iter().any(|image| image.name == entry.name));
    let (verdict, found) = match default {
        Some(entry) if here => (Verdict::Good, format!("“{}” is here", entry.name)),
        Some(entry) => {
            (Verdict::Good, format!("“{}” is in the catalog, and is got with the first VM", entry.name))
        }
        None => (Verdict::Failure, "it is neither here nor in the catalog".to_owned()),
    };
    let fix = default
        .is_none()
        .then(|| "name one that is there: `image` of `[vm]` in the configuration".to_owned());
    Check { name: "Default image", verdict, found, fix }
}

fn unknown(system: &SystemStatus) -> Option<Check> {
    let names: Vec<_> = system.unknown_vms.iter().map(|path| path.display().to_string()).collect();
    (!names.is_empty()).then(|| Check {
        name: "Disks of no VM",
        verdict: Verdict::Warning,
        found: names.join(", "),
        fix: Some("look at them, and delete the folders that you do not need".to_owned()),
    })
}

fn console(system: &SystemStatus) -> Option<Check> {
    let web = system.web.as_ref()?;
    Some(Check {
        name: "Web console",
        verdict: if web.note.is_some() { Verdict::Warning } else { Verdict::Good },
        found: web.note.clone().unwrap_or_else(|| format!("it is at {}", web.url)),
        fix: web.note.is_some().then(|| "`banger daemon restart` tries the wanted port again".to_owned()),
    })
}
