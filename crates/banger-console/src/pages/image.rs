//! Images: what is here, and what each one is.

use axum::extract::Path;
use banger_types::image::{Image, ImageConfig, ImageLayer};
use banger_types::size::binary_bytes;
use banger_types::vm::Vm;
use maud::{Markup, html};

use crate::answer::Answer;
use crate::layout::{Page, confirm, facts, lines, text, time};
use crate::visit::{Posted, Visit, query_of};

/// `GET /images`
pub(crate) async fn list(visit: Visit) -> Answer {
    let (images, vms) = tokio::try_join!(visit.client().images(), visit.client().vms())?;
    let body = html! {
        section {
            @if images.is_empty() {
                p.empty { "There is no image yet. The default one comes by itself with the first VM; the " a href=(visit.to("/catalog")) { "catalog" } " has others." }
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Images" {
                    table {
                        thead { tr {
                            th scope="col" { "Name" } th scope="col" { "From" } th.number scope="col" { "Size" }
                            th scope="col" { "Used by" } th scope="col" { "Made" }
                        } }
                        tbody { @for image in &images { (row(&visit, image, &vms)) } }
                    }
                }
            }
            p.actions {
                a.button.primary href=(visit.to("/pull/image")) { "Pull an image" }
                a.button href=(visit.to("/register/image")) { "Register files of yours" }
                a.button href=(visit.to("/prune")) { "Take away what nobody uses" }
            }
        }
    };
    Ok(Page::new("Images", body).answer(&visit))
}

fn row(visit: &Visit, image: &Image, vms: &[Vm]) -> Markup {
    html! {
        tr {
            th scope="row" {
                a href=(visit.to(&format!("/images/{}", image.id))) { (image.name) }
                @if let Some(problem) = &image.problem { p.wrong { "✕ " (problem) } }
            }
            td { (image.source) }
            td.number { (binary_bytes(image.disk_usage)) }
            td { (users(visit, vms.iter().filter(|vm| vm.spec.image == image.id))) }
            td { (time(image.created_at)) }
        }
    }
}

/// Returns VMs as links.
pub(crate) fn users<'a>(visit: &Visit, vms: impl Iterator<Item = &'a Vm>) -> Markup {
    html! {
        @for (number, vm) in vms.enumerate() {
            @if number > 0 { ", " }
            a href=(visit.to(&format!("/vms/{}", vm.name))) { (vm.name) }
        }
    }
}

/// `GET /images/NAME`
pub(crate) async fn show(visit: Visit, Path(name): Path<String>) -> Answer {
    let client = visit.client();
    let (image, vms) = tokio::try_join!(client.image(&name), client.vms())?;
    let digest = image.digest.as_deref().unwrap_or_default();
    let kernel = html! { @if let Some(kernel) = &image.kernel { a href=(visit.to(&format!("/kernels/{kernel}"))) { (kernel) } } };
    let here = format!("/images/{}", image.id);
    let delete = format!("{here}/delete");
    let body = html! {
        @if let Some(problem) = &image.problem { p.notice.bad role="alert" { "✕ It cannot be used: " (problem) "." } }
        section {
            h2 { "Details" }
            (facts(vec![
                ("From", text(&image.source)),
                ("Digest", html! { @if !digest.is_empty() { code { (digest) } } }),
                ("Size", text(format!("{}, of which {} are taken on this host", binary_bytes(image.size), binary_bytes(image.disk_usage)))),
                ("Made", time(image.created_at)),
                ("Kernel", kernel),
                ("Used by", users(&visit, vms.iter().filter(|vm| vm.spec.image == image.id))),
                ("Id", html! { code { (image.id) } }),
            ]))
            (registered(&image))
            p.actions {
                a.button.primary href=(visit.to(&format!("/create?{}", query_of(&[("image", &image.name), ("back", &here)])))) { "Create a VM from it" }
                @if image.registered.is_none() {
                    a.button href=(visit.to(&format!("/pull/image?{}", query_of(&[("source", &image.source), ("name", &image.name), ("back", &here)])))) { "Pull it anew" }
                }
                a.button.danger href=(visit.to(&delete)) { "Delete…" }
            }
        }
        (configuration(&image.config))
        (layers(&image.layers))
    };
    let title = format!("Image {}", image.name);
    Ok(Page::new(&title, body).from("/images", "Images").answer(&visit))
}

fn registered(image: &Image) -> Markup {
    html! {
        @if let Some(registered) = &image.registered {
            h3 { "A file of yours, used where it is" }
            (facts(vec![
                ("File", html! { code { (registered.file.path.display()) } }),
                ("File system", text(registered.found.file_system.to_string())),
                ("Partition", text(registered.found.partition.map(|it| it.to_string()).unwrap_or_default())),
                ("Init", text(registered.found.init.clone().unwrap_or_default())),
            ]))
        }
    }
}

fn configuration(config: &ImageConfig) -> Markup {
    let labels = config.labels.iter().map(|(name, value)| format!("{name}={value}"));
    html! {
        section {
            h2 { "Configuration" }
            (facts(vec![
                ("User", text(if config.user.is_empty() { "root" } else { &config.user })),
                ("Directory", text(&config.working_directory)),
                ("Entrypoint", lines(&config.entrypoint)),
                ("Command", lines(&config.command)),
                ("Ports", lines(&config.exposed_ports)),
                ("Stop signal", text(config.stop_signal.as_deref().unwrap_or_default())),
                ("Environment", lines(&config.environment)),
                ("Labels", lines(labels)),
            ]))
        }
    }
}

/// Returns what an image was made of, the lowest layer first.
fn layers(layers: &[ImageLayer]) -> Markup {
    html! {
        @if !layers.is_empty() {
            section {
                h2 { "Layers" }
                div.scroll tabindex="0" role="region" aria-label="Layers" {
                    table {
                        thead { tr {
                            th.number scope="col" { "Number" } th scope="col" { "Digest" }
                            th.number scope="col" { "Size" } th.number scope="col" { "Transferred" } th scope="col" { "Made by" }
                        } }
                        tbody { @for (number, layer) in (1..).zip(layers) { (layer_row(number, layer)) } }
                    }
                }
            }
        }
    }
}

fn layer_row(number: u64, layer: &ImageLayer) -> Markup {
    let digest = layer.digest.unwrap_or(layer.diff_id).to_string();
    html! {
        tr {
            th.number scope="row" { (number) }
            td { code title=(digest) { (layer.short_digest()) } }
            td.number { (binary_bytes(layer.size)) }
            td.number { @if let Some(size) = layer.stored_size { (binary_bytes(size)) } }
            td { @if let Some(command) = &layer.created_by { code { (command) } } }
        }
    }
}

/// `GET /images/NAME/delete`
pub(crate) async fn ask_delete(visit: Visit, Path(name): Path<String>) -> Answer {
    let (image, vms) = tokio::try_join!(visit.client().image(&name), visit.client().vms())?;
    let back = format!("/images/{}", image.id);
    let used: Vec<_> = vms.iter().filter(|vm| vm.spec.image == image.id).collect();
    let lost = html! {
        p { strong { "⚠ The image “" (image.name) "” is deleted." } }
        @if image.registered.is_some() { p { "Its file stays where it is; banger forgets it." } } @else {
            p { "Lost: " (binary_bytes(image.disk_usage)) " of root file system, which came from " (image.source) "." }
        }
        @if !used.is_empty() { p { "It is refused while VMs use it: " (users(&visit, used.into_iter())) "." } }
    };
    let body = confirm(&visit, &format!("{back}/delete"), &back, "Delete it", &[], &lost);
    let title = format!("Delete image {}?", image.name);
    Ok(Page::new(&title, body).from(&back, &image.name).answer(&visit))
}

/// `POST /images/NAME/delete`
pub(crate) async fn delete(Path(name): Path<String>, Posted(visit, _): Posted) -> Answer {
    let operation = visit.client().delete_image(&name).await?;
    Ok(visit.follow(&operation))
}
