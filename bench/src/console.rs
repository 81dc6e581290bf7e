//! The web console as a browser has it: how long its dashboard takes, how much comes with it, how soon a change is there, and what is
//! asked while nothing changes.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use banger_api::Client;
use banger_testkit::Environment;
use banger_testkit::browser::{Browser, ask, request};
use banger_testkit::seed::PROBE;
use banger_types::location::variable;
use banger_types::vm::{VmCreateRequest, VmSetRequest};

use crate::report::{Comparison, Mark, Row};
use crate::rounds::Rounds;
use crate::sample::{Samples, Unit};

/// How many VMs the dashboard shows.
const VMS: usize = 200;

/// Measures all of it, with a daemon of its own.
pub(crate) fn measure(rounds: &Rounds) -> Result<Comparison> {
    let environment = Environment::new().with_variable(variable::WEB_LISTEN, "127.0.0.1:0");
    environment.succeed(&["daemon", "start"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client::new(environment.data().join("run/bangerd.sock"));
    let browser = runtime.block_on(sign_in(&client))?;
    let mut nothing = Samples::times();
    load(&browser, rounds, &mut nothing);
    runtime.block_on(make_vms(&client))?;
    let mut dashboard = Samples::times();
    load(&browser, rounds, &mut dashboard);
    let first = first_load(&browser)?;
    let changes = changes(&runtime, &client, &browser, rounds)?;
    Ok(Comparison {
        title: "The web console".to_owned(),
        method: format!(
            "Over loopback, from a connection's first byte to the answer's last, as a browser that is signed in; {VMS} VMs that do \
             not run. The first load is the dashboard with its style sheet, its script and its icon, without headers. A change is a \
             label that is set by the API: from that call to the part of the VM's page with it, which its stream sends."
        ),
        rows: vec![
            Row::of(format!("the dashboard, {VMS} VMs"), dashboard)
                .against("without a VM", &nothing)
                .mark(Mark::AtMost(15.0)),
            Row::of("its first load, all of it", Samples::kibibytes(first)).mark(Mark::AtMost(100.0)),
            Row::of("a change, until the page has it", changes).mark(Mark::AtMost(100.0)),
        ],
    })
}

async fn sign_in(client: &Client) -> Result<Browser> {
    let url = client.create_sign_in_link().await?.url;
    let (address, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("no link")?;
    let address: SocketAddr = address.parse()?;
    Ok(Browser::sign_in(address, &format!("/{path}")))
}

async fn make_vms(client: &Client) -> Result<()> {
    for number in 0..VMS {
        let request = VmCreateRequest {
            name: Some(format!("vm-{number}").parse()?),
            image: Some(PROBE.to_owned()),
            no_start: true,
            ..VmCreateRequest::default()
        };
        let operation = client.create_vm(&request).await?;
        let mut watch = client.watch_operation(operation.id.as_str()).await?;
        while watch.next().await?.is_some() {}
    }
    Ok(())
}

fn load(browser: &Browser, rounds: &Rounds, took: &mut Samples) {
    for _ in 0..rounds.exec {
        let begun = Instant::now();
        browser.get("/");
        took.push(begun.elapsed());
    }
}

/// Returns how large the dashboard is with everything that it loads, KiB.
fn first_load(browser: &Browser) -> Result<u64> {
    let page = browser.get("/").body;
    ensure!(page.contains(&format!("vm-{}", VMS - 1)), "not all VMs are on the dashboard");
    let host = format!("Host: {}", browser.address);
    let mut bytes = page.len();
    let assets: Vec<&str> = page.split('"').filter(|part| part.starts_with("/assets/")).collect();
    ensure!(assets.len() == 3, "the dashboard loads {assets:?}");
    for asset in assets {
        bytes += ask(browser.address, &request("GET", asset, &[&host], "")).body.len();
    }
    Ok((bytes as u64).div_ceil(1024))
}

/// Returns how long changes take to be on the page.
fn changes(
    runtime: &tokio::runtime::Runtime,
    client: &Client,
    browser: &Browser,
    rounds: &Rounds,
) -> Result<Samples> {
    const VM: &str = "vm-7";
    let mut stream = browser.stream(&format!("page=vm&name={VM}"));
    stream.wait_for("\"id\":\"details\"");
    let mut took = Samples::new(Unit::Milliseconds);
    for number in 0..rounds.exec {
        let value = format!("change-{number}.");
        let labels = [("round".to_owned(), Some(value.clone()))].into();
        let begun = Instant::now();
        runtime.block_on(client.set_vm(VM, &VmSetRequest { labels, ..VmSetRequest::default() }))?;
        stream.wait_for(&value);
        took.push(begun.elapsed());
    }
    Ok(took)
}
