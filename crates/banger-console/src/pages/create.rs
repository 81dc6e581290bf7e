//! Making a VM.

use banger_types::VmName;
use banger_types::catalog::Catalog;
use banger_types::forwards::read_forwards;
use banger_types::image::Image;
use banger_types::setting::Setting;
use banger_types::shell::quoted;
use banger_types::size::Mebibytes;
use banger_types::vm::{EngineKind, NetworkMode, RestartPolicy, VmCreateRequest, check_label};
use banger_types::{ApiError, ErrorKind};
use maud::{Markup, html};

use super::picker::completing;
use super::pull::{from_files, to_picker};
use crate::answer::{Answer, Trouble};
use crate::form::{self, Form};
use crate::layout::{Page, explain};
use crate::visit::{Posted, Visit, back_of, came_from};

/// `GET /create`
pub(crate) async fn offer(visit: Visit) -> Answer {
    let mut form = visit.as_form();
    let page = page(&visit, &mut form, None).await?;
    Ok(page.answer(&visit))
}

/// `POST /create`
pub(crate) async fn accept(Posted(visit, mut form): Posted) -> Answer {
    let request = request(&mut form);
    if !form.is_good() {
        return Ok(page(&visit, &mut form, None).await?.answer_with(&visit, 422));
    }
    if form.has("preview") {
        return Ok(page(&visit, &mut form, None).await?.answer(&visit));
    }
    match visit.client().create_vm(&request).await {
        Ok(operation) => Ok(visit.follow(&operation)),
        Err(error) => {
            let trouble = Trouble::from(error);
            // What was filled in is not lost.
            Ok(page(&visit, &mut form, Some(&trouble.error)).await?.answer_with(&visit, trouble.status))
        }
    }
}

/// `POST /create/browse`: to the host's files, with what was filled in.
pub(crate) async fn browse(Posted(visit, form): Posted) -> Answer {
    Ok(to_picker(&visit, &form, "/create"))
}

/// Returns the request that a form means. What is wrong with it is said there.
fn request(form: &mut Form) -> VmCreateRequest {
    let image = form.text("source").or_else(|| form.text("image"));
    VmCreateRequest {
        name: form.read::<VmName>("name"),
        image,
        kernel: form.text("kernel"),
        vcpus: form.read::<u32>("vcpus"),
        memory: form.read::<Mebibytes>("memory"),
        disk: form.read::<Mebibytes>("disk"),
        network: network(form),
        engine: engine(form),
        restart: restart(form),
        forwards: lines_of(form, "forwards", |line| read_forwards(line).map_err(|error| error.to_string()))
            .into_iter()
            .flatten()
            .collect(),
        environment: lines_of(form, "environment", variable),
        labels: lines_of(form, "labels", label).into_iter().collect(),
        allow_host: form.has("allow_host"),
        no_peers: form.has("no_peers"),
        service: form.has("service"),
        no_start: no_start(form),
        ..VmCreateRequest::default()
    }
}

/// Reads whether it is left stopped, which a command that runs from its first boot on cannot be.
fn no_start(form: &mut Form) -> bool {
    let no_start = form.has("no_start");
    if no_start && form.has("service") {
        form.wrong(
            "service",
            "a VM that runs its image's command is started: leave it stopped, or let it run that",
        );
    }
    no_start
}

/// Reads the network that was chosen, if one was.
pub(super) fn network(form: &Form) -> Option<NetworkMode> {
    match form.get("network") {
        "user" => Some(NetworkMode::User),
        "nat" => Some(NetworkMode::Nat),
        "none" => Some(NetworkMode::None),
        _ => None,
    }
}

/// Reads the engine that was chosen, if one was.
pub(super) fn engine(form: &Form) -> Option<EngineKind> {
    match form.get("engine") {
        "firecracker" => Some(EngineKind::Firecracker),
        "qemu" => Some(EngineKind::Qemu),
        _ => None,
    }
}

/// Reads when it is to be started again.
pub(super) fn restart(form: &Form) -> RestartPolicy {
    match form.get("restart") {
        "on-failure" => RestartPolicy::OnFailure,
        "always" => RestartPolicy::Always,
        _ => RestartPolicy::No,
    }
}

/// What can be chosen for that.
pub(super) const RESTARTS: [(&str, &str); 3] =
    [("no", "never"), ("on-failure", "when it has failed"), ("always", "always, unless you stop it")];

/// Reads each line of a field.
pub(super) fn lines_of<T>(
    form: &mut Form,
    name: &'static str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let read: Result<Vec<T>, String> = form.lines(name).map(read).collect();
    read.unwrap_or_else(|why| {
        form.wrong(name, why);
        Vec::new()
    })
}

fn variable(line: &str) -> Result<String, String> {
    match line.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(line.to_owned()),
        _ => Err(format!("'{line}' is not NAME=VALUE")),
    }
}

/// Reads a label.
pub(super) fn label(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    check_label(name, value).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}

async fn page(visit: &Visit, form: &mut Form, error: Option<&ApiError>) -> Result<Page<'static>, Trouble> {
    let client = visit.client();
    let (images, catalog, settings) = tokio::try_join!(client.images(), client.catalog(), client.settings())?;
    let setting = |name: &str| {
        let found = settings.iter().find(|setting: &&Setting| setting.name == name);
        found.map(|setting| setting.value.clone()).unwrap_or_default()
    };
    for name in ["image", "vcpus", "memory", "disk"] {
        form.suggest(name, &setting(&format!("vm.{name}")));
    }
    let images = choices(&images, &catalog, form.get("image"));
    let command = command(&request(&mut form.clone()));
    let back = back_of(form, "/");
    let body = html! {
        (form.summary())
        @if let Some(error) = error.filter(|error| error.kind != ErrorKind::Unreachable) { (explain(error)) }
        form method="post" action=(visit.to("/create")) {
            (form::key(visit))
            (came_from(form))
            // Enter in a line is this button, and not the first of all.
            button.first type="submit" tabindex="-1" aria-hidden="true" { "Create VM" }
            section {
                h2 { "What" }
                div.columns {
                    (form.line("name", "Name", "lower-case letters, digits and hyphens; one is made up if there is none", "web"))
                    (form.choice("image", "Image", "what is not here is got first, which can take minutes", &images))
                    (form.typed_path("source", "Or another image", "a source, which is used instead: a registry's name, oci:DIR, tar:FILE, dockerfile:DIR and more", "docker://alpine", &completing(visit, "any")))
                    (form.line("kernel", "Kernel", "the image's own choice, or the default, if there is none", ""))
                }
                (from_files(visit, form, "/create/browse"))
            }
            section {
                h2 { "How large" }
                div.columns {
                    (form.line("vcpus", "Virtual CPUs", "a number", "2"))
                    (form.line("memory", "Memory", "as 512M or 2G; it is taken as it is needed", "2G"))
                    (form.line("disk", "Disk", "as 20G; it takes space only as it fills", "20G"))
                }
            }
            (reached(form))
            (rest(form))
            section {
                h2 { "The same in a terminal" }
                pre { (command) }
                p.actions { button type="submit" name="preview" value="yes" { "Show the command for what is filled in" } }
            }
            p.actions {
                button.primary type="submit" { "Create VM" }
                a.button href=(visit.to(&back)) { "Cancel" }
            }
        }
    };
    Ok(Page::new("Create VM", body).from("/", "Dashboard"))
}

fn reached(form: &Form) -> Markup {
    let networks = [
        ("", "the best that this host is ready for"),
        ("user", "user: outward connections, without root"),
        ("nat", "nat: addresses and a name of its own; needs the root helper"),
        ("none", "none: no network card; a shell works all the same"),
    ];
    html! {
        section {
            h2 { "How it is reached" }
            div.columns {
                (form.choice("network", "Network", "what listens in it gets a port of 127.0.0.1 by itself, in each of them", &owned(&networks)))
                (form.area("forwards", "Forwards", "one a line: HOST:GUEST, as 8080:80; on 127.0.0.1 unless an address comes first", "8080:80"))
            }
            (form.tick("allow_host", "It reaches this host's own addresses, but for the loopback"))
            (form.tick("no_peers", "It is kept apart from your other VMs"))
        }
    }
}

fn rest(form: &Form) -> Markup {
    let engines =
        [("", "what is best on this host"), ("firecracker", "Firecracker, with KVM"), ("qemu", "QEMU")];
    html! {
        section {
            h2 { "How it runs" }
            div.columns {
                (form.area("environment", "Environment", "one variable a line, for its sessions: NAME=VALUE", "EDITOR=vim"))
                (form.area("labels", "Labels", "one a line, to find it by: NAME=VALUE", "project=shop"))
                (form.choice("engine", "Engine", "what runs it", &owned(&engines)))
                (form.choice("restart", "Start it again", "after it has ended by itself", &owned(&RESTARTS)))
            }
            (form.tick("service", "Run the image's own command, from every boot on"))
            (form.tick("no_start", "Leave it stopped"))
        }
    }
}

/// Returns pairs that can be kept.
pub(super) fn owned(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(value, shown)| ((*value).to_owned(), (*shown).to_owned())).collect()
}

/// Returns the images that are here, then those of the catalog that are not.
fn choices(images: &[Image], catalog: &Catalog, wanted: &str) -> Vec<(String, String)> {
    let here = images.iter().map(|image| (image.name.clone(), image.name.clone()));
    let is_here = |name: &str| images.iter().any(|image| image.name == name);
    let others = catalog.images.iter().filter(|entry| !is_here(&entry.name));
    let others = others
        .map(|entry| (entry.name.clone(), format!("{} (is got first: {})", entry.name, entry.description)));
    let mut all: Vec<_> = here.chain(others).collect();
    if !wanted.is_empty() && !all.iter().any(|(name, _)| name == wanted) {
        all.insert(0, (wanted.to_owned(), wanted.to_owned()));
    }
    all
}

/// Returns the command that does the same.
fn command(request: &VmCreateRequest) -> String {
    // The name of what `run` makes stands behind an option: what comes without one is a command there.
    let (verb, name) =
        if request.service { ("banger vm run --service", "--name ") } else { ("banger vm create", "") };
    let mut words = vec![verb.to_owned()];
    words.extend(request.name.as_ref().map(|given| format!("{name}{given}")));
    let mut option = |name: &str, value: Option<String>| {
        words.extend(value.map(|value| format!("{name} {}", quoted(&value))));
    };
    option("--image", request.image.clone());
    option("--kernel", request.kernel.clone());
    option("--vcpus", request.vcpus.map(|it| it.to_string()));
    option("--memory", request.memory.map(|it| it.to_string()));
    option("--disk", request.disk.map(|it| it.to_string()));
    option("--net", request.network.map(|it| it.to_string()));
    option("--engine", request.engine.map(|it| it.to_string()));
    for forward in &request.forwards {
        option("-p", Some(forward.to_string()));
    }
    for variable in &request.environment {
        option("-e", Some(variable.clone()));
    }
    for (name, value) in &request.labels {
        option("--label", Some(format!("{name}={value}")));
    }
    option("--restart", (request.restart != RestartPolicy::No).then(|| request.restart.to_string()));
    let flags = [
        (request.allow_host, "--allow-host"),
        (request.no_peers, "--no-peers"),
        (request.no_start, "--no-start"),
    ];
    words.extend(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| (*flag).to_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> Form {
        Form::new(owned(fields))
    }

    #[test]
    fn the_command_is_what_the_form_says() {
        let mut form = form(&[
            ("name", "web"),
            ("image", "debian"),
            ("memory", "1G"),
            ("network", "none"),
            ("forwards", "8080:80\n53:53/udp"),
            ("environment", "A=it's; rm -rf /"),
            ("labels", "team=a b"),
            ("no_start", "yes"),
        ]);
        let request = request(&mut form);
        assert!(form.is_good());
        assert_eq!(
            command(&request),
            "banger vm create web --image debian --memory 1G --net none -p 127.0.0.1:8080:80 \
             -p 127.0.0.1:53:53/udp -e 'A=it'\\''s; rm -rf /' --label 'team=a b' --no-start"
        );
    }

    #[test]
    fn the_command_of_a_service_is_that_of_run() {
        let mut form = form(&[("name", "web"), ("image", "nginx"), ("service", "yes")]);
        assert_eq!(command(&request(&mut form)), "banger vm run --service --name web --image nginx");
        assert!(form.is_good());
        let mut both = self::form(&[("service", "yes"), ("no_start", "yes")]);
        request(&mut both);
        assert!(!both.is_good());
    }

    #[test]
    fn each_mistake_is_said_at_its_field() {
        let mut form = form(&[
            ("name", "A/B"),
            ("vcpus", "many"),
            ("memory", "1X"),
            ("forwards", "8080"),
            ("environment", "=x"),
            ("labels", "a b"),
        ]);
        request(&mut form);
        let shown = form.summary().into_string();
        for field in ["name", "vcpus", "memory", "forwards", "environment", "labels"] {
            assert!(shown.contains(&format!("href=\"#{field}\"")), "{field}: {shown}");
        }
        assert!(!shown.contains("#disk"), "{shown}");
    }
}
