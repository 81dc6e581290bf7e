//! `banger vm stats` and `banger vm top`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use banger_api::{Client, ClientError};
use banger_types::ErrorKind;
use banger_types::size::human_bytes;
use banger_types::stats::VmStats;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::{DONE, Outcome};
use crate::arguments::StatsArguments;
use crate::context::Context;
use crate::error::CommandError;
use crate::printer::{Table, duration};

/// Between two looks: a rate needs two.
const INTERVAL: Duration = Duration::from_secs(1);

/// Prints what VMs take, once or again and again.
pub(in crate::command) async fn stats(context: &Context, arguments: &StatsArguments) -> Outcome {
    follow(context, &arguments.names, arguments.watch, Order::Name).await
}

/// Shows what all VMs take, those that take most first, until it is interrupted.
pub(in crate::command) async fn top(context: &Context) -> Outcome {
    follow(context, &[], true, Order::Processor).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Name,
    Processor,
}

async fn follow(context: &Context, names: &[String], watch: bool, order: Order) -> Outcome {
    let client = context.daemon().await?;
    let mut before: BTreeMap<String, VmStats> = BTreeMap::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    // A look that takes long is not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let redraws = watch && !context.printer.is_json() && std::io::stdout().is_terminal();
    for round in 0_u64.. {
        ticks.tick().await;
        let now = look(client, names).await?;
        if round > 0 {
            let mut rows: Vec<Row> =
                now.iter().map(|stats| Row::new(before.get(stats.id.as_str()), stats)).collect();
            if order == Order::Processor {
                rows.sort_by_key(|row| std::cmp::Reverse(row.cpu_tenths));
            }
            if context.printer.is_json() {
                rows.iter().try_for_each(|row| context.printer.item(row.stats))?;
            } else {
                let table = table(&rows);
                if redraws {
                    context.printer.clear()?;
                }
                context.printer.table(&table)?;
            }
            if !watch {
                return Ok(DONE);
            }
        }
        before = now.into_iter().map(|stats| (stats.id.to_string(), stats)).collect();
    }
    Ok(DONE)
}

/// Asks for all VMs at once. Of those that were not named, the ones that run are asked for.
async fn look(client: &Client, names: &[String]) -> Result<Vec<VmStats>, CommandError> {
    let wants_all = names.is_empty();
    let names: Vec<String> = if wants_all {
        let vms = client.vms().await?.into_iter();
        vms.filter(|vm| vm.state.is_alive()).map(|vm| vm.id.to_string()).collect()
    } else {
        names.to_vec()
    };
    let is_gone =
        |error: &ClientError| matches!(error, ClientError::Api(error) if error.kind == ErrorKind::NotFound);
    let mut asked = JoinSet::new();
    for (place, name) in names.iter().enumerate() {
        let (client, name) = (client.clone(), name.clone());
        asked.spawn(async move { (place, client.vm_stats(&name).await) });
    }
    let mut found = BTreeMap::new();
    while let Some(answer) = asked.join_next().await {
        let (place, answer) = answer.map_err(|source| CommandError::io("cannot ask for all VMs", &source))?;
        match answer {
            Ok(stats) => drop(found.insert(place, stats)),
            // Nobody has asked for this one, and it has been deleted meanwhile.
            Err(error) if wants_all && is_gone(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found.into_values().collect())
}

/// A VM between two looks.
struct Row<'a> {
    stats: &'a VmStats,
    /// Tenths of a percent of one processor, as the guest sees it.
    cpu_tenths: Option<u64>,
    /// The same of its processes, as the host sees it.
    host_cpu_tenths: Option<u64>,
    /// Bytes a second.
    received: Option<u64>,
    sent: Option<u64>,
}

impl<'a> Row<'a> {
    fn new(before: Option<&VmStats>, now: &'a VmStats) -> Self {
        let elapsed = before.map(|before| now.at.duration_since(before.at).as_millis());
        let elapsed = elapsed.and_then(|elapsed| u64::try_from(elapsed).ok());
        let guests = before.and_then(|before| before.guest.as_ref().zip(now.guest.as_ref()));
        // One that has booted again begins anew.
        let guests = guests.filter(|(before, now)| now.uptime_ms >= before.uptime_ms);
        let cpu_tenths = guests.and_then(|(before, now_guest)| {
            let busy = now_guest.cpu_busy_ms?.checked_sub(before.cpu_busy_ms?)?;
            let total = now_guest.cpu_total_ms?.checked_sub(before.cpu_total_ms?)?;
            busy.saturating_mul(u64::from(now.vcpus)).saturating_mul(1000).checked_div(total)
        });
        let hosts = before.and_then(|before| before.host.zip(now.host));
        let host_cpu_tenths = hosts.zip(elapsed).and_then(|((before, now), elapsed)| {
            now.cpu_ms.checked_sub(before.cpu_ms)?.saturating_mul(1000).checked_div(elapsed)
        });
        let rate = |of: fn(&banger_types::guest::GuestStats) -> Option<u64>| {
            let (before, now) = guests?;
            of(now)?.checked_sub(of(before)?)?.saturating_mul(1000).checked_div(elapsed?)
        };
        Self {
            stats: now,
            cpu_tenths,
            host_cpu_tenths,
            received: rate(|guest| guest.network_received),
            sent: rate(|guest| guest.network_sent),
        }
    }
}

fn table(rows: &[Row<'_>]) -> Table {
    let mut table = Table::new([
        "NAME",
        "CPU",
        "MEMORY",
        "FREE",
        "CACHE",
        "DISK",
        "ON HOST",
        "NET IN",
        "NET OUT",
        "LOAD",
        "UP",
        "HOST CPU",
        "HOST MEMORY",
    ]);
    for row in rows {
        let stats = row.stats;
        let guest = stats.guest.as_ref();
        let of_guest = |bytes: Option<u64>| shown(bytes.map(human_bytes));
        let used = guest.map(|guest| guest.memory_total.saturating_sub(guest.memory_available));
        let disk = guest.and_then(|guest| guest.disk_used.zip(guest.disk_total));
        table.row([
            stats.name.to_string(),
            shown(row.cpu_tenths.map(percent)),
            shown(used.zip(guest).map(|(used, guest)| of(used, guest.memory_total))),
            of_guest(guest.and_then(|guest| guest.memory_free)),
            of_guest(guest.and_then(|guest| guest.memory_cached)),
            shown(disk.map(|(used, total)| of(used, total))),
            human_bytes(stats.disk_allocated),
            shown(row.received.map(per_second)),
            shown(row.sent.map(per_second)),
            shown(guest.and_then(|guest| guest.load_hundredths).map(load)),
            shown(guest.map(|guest| duration(guest.uptime_ms))),
            shown(row.host_cpu_tenths.map(percent)),
            shown(stats.host.map(|host| human_bytes(host.pss))),
        ]);
    }
    table
}

/// What is not known is a dash.
fn shown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn of(used: u64, total: u64) -> String {
    format!("{} of {}", human_bytes(used), human_bytes(total))
}

fn per_second(bytes: u64) -> String {
    format!("{}/s", human_bytes(bytes))
}

fn percent(tenths: u64) -> String {
    format!("{}.{}%", tenths / 10, tenths % 10)
}

fn load(hundredths: [u32; 3]) -> String {
    hundredths.map(|load| format!("{}.{:02}", load / 100, load % 100)).join(" ")
}
