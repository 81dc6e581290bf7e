//! Taking away what nobody uses.

use banger_types::size::binary_bytes;
use banger_types::space::{PruneRequest, PruneRules, SpaceKind, SpaceName};
use banger_types::{ApiError, ErrorKind};
use maud::{Markup, html};

use crate::answer::Answer;
use crate::form;
use crate::layout::Page;
use crate::visit::{Posted, Visit};

/// Returns the rules that boxes mean.
fn rules(all: bool) -> PruneRules {
    PruneRules { all, ..PruneRules::default() }
}

/// `GET /prune`: what would go, named; it is the question, too.
pub(crate) async fn offer(visit: Visit) -> Answer {
    let all = visit.query("all") == "yes";
    let rules = rules(all);
    let (pruned, space) = tokio::try_join!(visit.client().prunable(&rules), visit.client().space())?;
    let agreed: Vec<_> = pruned
        .items
        .iter()
        .map(|item| SpaceName { kind: item.kind, name: item.name.clone(), id: item.id.clone() })
        .collect();
    // Nothing but what was shown.
    let agreed = serde_json::to_string(&agreed).unwrap_or_default();
    let body = html! {
        section {
            p { "banger's data takes " strong { (binary_bytes(space.total)) } "; " (binary_bytes(space.available)) " are free on its file system." }
            form method="get" action=(visit.to("/prune")) {
                p.tick {
                    input type="checkbox" id="all" name="all" value="yes" checked[all];
                    label for="all" { "Everything that no VM uses, and everything that was downloaded; not only what was superseded or not used for a week" }
                }
                button type="submit" { "Show what would go" }
            }
        }
        section {
            h2 { "What would go" }
            @if pruned.items.is_empty() { p.empty { "Nothing: all of it is used, or is young." } } @else {
                (items(&pruned.items))
                div.notice.warn { p { strong { "⚠ Lost: these " (pruned.items.len()) " things, " (binary_bytes(pruned.bytes)) " in all." } " Nothing that a VM uses is among them. What a catalog or a registry has can be got again." } }
                form method="post" action=(visit.to("/prune")) {
                    (form::key(&visit))
                    input type="hidden" name="agreed" value=(agreed);
                    @if all { input type="hidden" name="all" value="yes"; }
                    p.actions {
                        button.danger type="submit" { "Take them away" }
                        a.button href=(visit.to("/images")) { "Cancel" }
                    }
                }
            }
            @for note in &pruned.notes { p.hint { (note) "." } }
        }
    };
    Ok(Page::new("Take away what nobody uses", body).from("/images", "Images").answer(&visit))
}

fn items(items: &[banger_types::space::SpaceItem]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="What would go" {
            table {
                thead { tr { th scope="col" { "What" } th scope="col" { "Name" } th.number scope="col" { "Size" } } }
                tbody {
                    @for item in items {
                        tr { td { (kind(item.kind)) } td { (item.name) } td.number { (binary_bytes(item.bytes)) } }
                    }
                }
            }
        }
    }
}

const fn kind(kind: SpaceKind) -> &'static str {
    match kind {
        SpaceKind::Image => "image",
        SpaceKind::Kernel => "kernel",
        SpaceKind::Vm => "VM",
        SpaceKind::Layer => "layer",
        SpaceKind::Engine => "engine",
        SpaceKind::Cache => "cache",
        SpaceKind::Own => "banger's own",
    }
}

/// `POST /prune`
pub(crate) async fn accept(Posted(visit, form): Posted) -> Answer {
    let only: Vec<SpaceName> = serde_json::from_str(form.get("agreed")).map_err(|error| {
        ApiError::caused_by(ErrorKind::Usage, "cannot tell what is to be taken away", &error)
            .fix("open the page anew, and send the form from there")
    })?;
    let request = PruneRequest { rules: rules(form.has("all")), only: Some(only) };
    let operation = visit.client().prune(&request).await?;
    Ok(visit.follow(&operation))
}
