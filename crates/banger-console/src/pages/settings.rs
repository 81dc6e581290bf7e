//! Settings as they are in force, and where each is from.

use banger_types::setting::SettingOrigin;
use maud::html;

use crate::answer::Answer;
use crate::layout::{Page, badge, facts, text, time};
use crate::visit::Visit;

/// `GET /settings`
pub(crate) async fn show(visit: Visit) -> Answer {
    let (settings, system) = tokio::try_join!(visit.client().settings(), visit.client().system())?;
    let body = html! {
        section {
            h2 { "bangerd" }
            (facts(vec![
                ("Version", text(&system.version)),
                ("Process", text(system.pid.to_string())),
                ("Started", time(system.started_at)),
                ("Socket", html! { code { (system.socket.display()) } }),
                ("Data", html! { code { (system.data_directory.display()) } }),
                ("Log", html! { code { (system.log.display()) } }),
            ]))
        }
        section {
            h2 { "In force" }
            div.scroll tabindex="0" role="region" aria-label="Settings" {
                table {
                    thead { tr { th scope="col" { "Setting" } th scope="col" { "Value" } th scope="col" { "From" } th scope="col" { "What it is" } } }
                    tbody {
                        @for setting in &settings {
                            tr {
                                th scope="row" { code { (setting.name) } }
                                td {
                                    @if setting.value.is_empty() { span.soft { "not set" } } @else { (setting.value) }
                                    @if let Some(next) = &setting.at_restart {
                                        p.hint { "⚠ " @if next.is_empty() { "not set" } @else { (next) } " after " code { "banger daemon restart" } }
                                    }
                                }
                                td {
                                    @match setting.origin {
                                        SettingOrigin::Default => (badge("○", "calm", "the default")),
                                        SettingOrigin::File(_) | SettingOrigin::Environment(_) => { "● " (setting.origin) },
                                    }
                                }
                                td { (setting.meaning) }
                            }
                        }
                    }
                }
            }
            p.hint {
                "They are changed by " code { "banger config set" } " or " code { "banger config edit" } ", and are in force at once, but for those of "
                code { "web" } ", " code { "operations" } " and " code { "catalog" } ": they are after " code { "banger daemon restart" } ", while VMs go on and this session ends."
            }
        }
    };
    Ok(Page::new("Settings", body).answer(&visit))
}
