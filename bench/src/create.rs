//! The host's work of `vm create`, and whether it depends on the image's size.

use anyhow::Result;
use banger_testkit::seed::DEBIAN;

use crate::archive;
use crate::banger::Banger;
use crate::report::{Comparison, Mark, Row};
use crate::rounds::Rounds;
use crate::sample::{Named, Samples};

/// What was measured of one image.
struct Side {
    image: String,
    whole: Samples,
    operation: Samples,
    phases: Named,
    delete: Samples,
}

/// Makes VMs of three images in turns.
pub(crate) fn compare(banger: &Banger, rounds: &Rounds) -> Result<Vec<Comparison>> {
    let mut pulls = Vec::new();
    let mut sides = vec![Side::new(DEBIAN)];
    for megabytes in rounds.image_megabytes {
        let image = format!("{megabytes}-mb");
        pulls.push((format!("`image pull` of a tar of {megabytes} MB"), pull(banger, &image, megabytes)?));
        sides.push(Side::new(&image));
    }
    // The first VM with a disk of this size formats the disk that all others are copied from.
    let mut first = Samples::times();
    first.push(banger.run(&["vm", "create", "first", "--no-start"])?.whole);
    banger.remove("first")?;
    for round in 0..rounds.create {
        for side in &mut sides {
            side.measure(banger, round)?;
        }
    }
    Ok(vec![host_work(&sides[0], first), independence(&sides, pulls)])
}

fn pull(banger: &Banger, image: &str, megabytes: u64) -> Result<Samples> {
    let archive = banger.scratch().join(format!("{image}.tar"));
    archive::write(&archive, megabytes)?;
    let source = format!("tar:{}", archive.display());
    let mut samples = Samples::times();
    samples.push(banger.run(&["image", "pull", &source, "--name", image])?.whole);
    fs_err::remove_file(archive)?;
    // What is still to be written must not be paid for by what is measured next.
    rustix::fs::sync();
    Ok(samples)
}

impl Side {
    fn new(image: &str) -> Self {
        Self {
            image: image.to_owned(),
            whole: Samples::times(),
            operation: Samples::times(),
            phases: Named::default(),
            delete: Samples::times(),
        }
    }

    fn measure(&mut self, banger: &Banger, round: usize) -> Result<()> {
        let vm = format!("create-{}-{round}", self.image);
        self.whole.push(banger.run(&["vm", "create", &vm, "--no-start", "--image", &self.image])?.whole);
        let operation = banger.operation("vm_create", &vm)?;
        self.operation.push(operation.whole);
        for (stage, duration) in operation.phases {
            self.phases.push(&stage, duration);
        }
        self.delete.push(banger.remove(&vm)?);
        Ok(())
    }
}

fn host_work(debian: &Side, first: Samples) -> Comparison {
    let mut rows = vec![
        Row::of("the command as a whole", debian.whole.clone()).mark(Mark::AtMost(50.0)),
        Row::of("the operation in the daemon", debian.operation.clone()),
    ];
    let phases = debian.phases.clone().into_iter();
    rows.extend(phases.map(|(stage, samples)| Row::of(format!("its phase \"{stage}\""), samples)));
    rows.push(Row::of("the first VM, for which the disk's template is formatted", first));
    rows.push(Row::of("`banger vm rm`", debian.delete.clone()));
    Comparison {
        title: "Host's work of `vm create`".to_owned(),
        method:
            "`banger vm create NAME --no-start`: the debian image, kernel and image local, daemon running. \
                 The command is measured from outside, as a process; the operation and its phases are what \
                 `banger op ls` says (phases in whole milliseconds)."
                .to_owned(),
        rows,
    }
}

fn independence(sides: &[Side], pulls: Vec<(String, Samples)>) -> Comparison {
    let [_, small, large] = sides else { return Comparison::nothing("`vm create` and the image's size") };
    let mut rows = vec![
        Row::of(format!("the command, image of {}", named(large)), large.whole.clone())
            .against(format!("image of {}", named(small)), &small.whole)
            .mark(Mark::Same),
        Row::of(format!("the operation, image of {}", named(large)), large.operation.clone())
            .against(format!("image of {}", named(small)), &small.operation)
            .mark(Mark::Same),
    ];
    rows.extend(pulls.into_iter().map(|(what, samples)| Row::of(what, samples)));
    Comparison {
        title: "`vm create` and the image's size".to_owned(),
        method: "The same command with two images of incompressible files, in turns.".to_owned(),
        rows,
    }
}

fn named(side: &Side) -> String {
    side.image.replace("-mb", " MB")
}
