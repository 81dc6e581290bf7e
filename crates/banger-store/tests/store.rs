//! The store against real database files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use banger_core::journal::Step;
use banger_core::process::ProcessIdentity;
use banger_core::store::{Page, Store, StoreError, VmRecord};
use banger_core::vm::{Published, Wanted};
use banger_store::SqliteStore;
use banger_types::image::{FileSystem, FoundRoot, RegisteredFile, RegisteredRootfs};
use banger_types::image::{Image, ImageConfig};
use banger_types::kernel::{Kernel, RegisteredKernel};
use banger_types::operation::{Operation, OperationKind, OperationStatus};
use banger_types::size::Mebibytes;
use banger_types::vm::{EngineKind, NetworkMode, RestartPolicy, VmSpec, VmState};
use banger_types::{ImageId, KernelId, OperationId, VmId};

fn image(number: u64, name: &str) -> Image {
    Image {
        id: ImageId::from_random(number),
        name: name.to_owned(),
        source: "tar:/x".to_owned(),
        digest: Some("sha256:0".to_owned()),
        size: 1,
        disk_usage: 1,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        config: ImageConfig::default(),
        layers: Vec::new(),
        kernel: None,
        registered: None,
        problem: None,
    }
}

fn kernel() -> Kernel {
    Kernel {
        id: KernelId::from_random(1),
        name: "default".to_owned(),
        source: "debian:bookworm".to_owned(),
        release: "6.1.0".to_owned(),
        version: "6.1.1-1".to_owned(),
        disk_usage: 1,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        features: Vec::new(),
        registered: None,
        problem: None,
    }
}

/// A file of somebody's own.
fn file() -> RegisteredFile {
    RegisteredFile { path: "/home/me/root.ext4".into(), size: 1, modified: jiff::Timestamp::UNIX_EPOCH }
}

/// An image and a kernel that were registered together.
fn registered(number: u64, name: &str) -> (Image, Kernel) {
    let id = KernelId::from_random(10 + number);
    let found = FoundRoot {
        file_system: FileSystem::Ext4,
        partition: None,
        unclean: false,
        init: Some("/sbin/init".to_owned()),
        systemd: false,
    };
    let rootfs = RegisteredRootfs { file: file(), found, kernel: Some(id.clone()) };
    let files = RegisteredKernel { kernel: file(), initrd: None };
    (
        Image { registered: Some(rootfs), digest: None, ..image(number, name) },
        Kernel { id, name: name.to_owned(), registered: Some(files), ..kernel() },
    )
}

fn made() -> OperationId {
    OperationId::from_random(99)
}

fn vm(number: u64, name: &str) -> VmRecord {
    VmRecord {
        id: VmId::from_random(number),
        name: name.parse().unwrap(),
        spec: VmSpec {
            image: ImageId::from_random(1),
            image_name: "base".to_owned(),
            kernel: KernelId::from_random(1),
            kernel_name: "default".to_owned(),
            vcpus: 2,
            memory: Mebibytes(512),
            disk: Mebibytes(1024),
            network: NetworkMode::User,
            allow_host: true,
            no_peers: true,
            environment: vec!["A=b c".to_owned()],
            forwards: Vec::new(),
            automatic_forwards: false,
            labels: [("team".to_owned(), "a b".to_owned())].into(),
            restart: RestartPolicy::OnFailure,
            service: false,
            engine: EngineKind::Qemu,
            remove: true,
        },
        published: Published::new(),
        wanted: Wanted::Running,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        owner: Some(ProcessIdentity { pid: 7, start_ticks: 8 }),
        host_public_key: "ssh-ed25519 AAAA".to_owned(),
    }
}

fn operation(number: u64, status: OperationStatus, second: i64) -> Operation {
    let time = jiff::Timestamp::from_second(second).unwrap();
    Operation {
        id: OperationId::from_random(number),
        kind: OperationKind::VmCreate,
        subject: "web".to_owned(),
        status,
        progress: None,
        asked_by: None,
        request: None,
        made: None,
        pruned: None,
        stop: None,
        finished_phases: Vec::new(),
        may_cancel: true,
        warnings: Vec::new(),
        error: None,
        created_at: time,
        updated_at: time,
    }
}

/// Everything that there is.
fn all() -> Page<OperationId> {
    Page { limit: u32::MAX, after: None }
}

fn open() -> (tempfile::TempDir, SqliteStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("banger.db")).unwrap();
    store.insert_image(&image(1, "base"), None, &made()).unwrap();
    store.insert_kernel(&kernel(), &made()).unwrap();
    (directory, store)
}

#[test]
fn what_was_written_is_there_after_the_file_is_opened_again() {
    let (directory, store) = open();
    let mut record = vm(1, "web");
    store.insert_vm(&record).unwrap();
    record.published = Published { state: VmState::Failed, reason: Some("why".to_owned()), generation: 9 };
    store.update_vm(&record).unwrap();
    drop(store);
    let store = SqliteStore::open(&directory.path().join("banger.db")).unwrap();
    assert_eq!(store.vms().unwrap(), vec![record]);
    assert_eq!(store.images().unwrap(), vec![image(1, "base")]);
    assert_eq!(store.kernels().unwrap(), vec![kernel()]);
}

#[test]
fn one_file_is_enough_after_a_consolidation() {
    let (directory, store) = open();
    store.consolidate().unwrap();
    let copy = directory.path().join("copy.db");
    std::fs::copy(directory.path().join("banger.db"), &copy).unwrap();
    assert_eq!(SqliteStore::open(&copy).unwrap().images().unwrap(), store.images().unwrap());
}

#[test]
fn a_name_is_taken_once() {
    let (_directory, store) = open();
    store.insert_vm(&vm(1, "web")).unwrap();
    assert!(matches!(store.insert_vm(&vm(2, "web")), Err(StoreError::NameTaken(name)) if name == "web"));
    // The same id under another name is no taken name but a failure of the caller's.
    assert!(matches!(store.insert_vm(&vm(1, "other")), Err(StoreError::Database { .. })));
}

#[test]
fn a_new_version_of_an_image_takes_its_name() {
    let (_directory, store) = open();
    let (first, second) = (image(1, "base"), image(2, "base"));
    let before = Image { name: format!("base@{}", first.id), ..first };
    assert_eq!(store.insert_image(&second, None, &made()).unwrap(), Some(before.clone()));
    assert_eq!(store.images().unwrap(), vec![second, before]);
    assert_eq!(store.insert_image(&image(3, "other"), None, &made()).unwrap(), None);
}

#[test]
fn what_a_vm_uses_is_kept() {
    let (_directory, store) = open();
    store.insert_vm(&vm(1, "web")).unwrap();
    let users = |result| match result {
        Err(StoreError::InUse(users)) => users,
        other => panic!("{other:?}"),
    };
    assert_eq!(users(store.delete_image(&ImageId::from_random(1)).map(drop)), ["web"]);
    assert_eq!(users(store.delete_kernel(&KernelId::from_random(1))), ["web"]);
    store.delete_vm(&VmId::from_random(1)).unwrap();
    store.delete_image(&ImageId::from_random(1)).unwrap();
    store.delete_kernel(&KernelId::from_random(1)).unwrap();
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn an_image_and_its_kernel_come_and_go_together() {
    let (_directory, store) = open();
    let names = || {
        let images = store.images().unwrap().into_iter().map(|image| image.name);
        images.chain(store.kernels().unwrap().into_iter().map(|kernel| kernel.name)).collect::<Vec<_>>()
    };
    // A kernel that was not registered keeps its name.
    let (image, kernel) = registered(2, "default");
    let taken = store.insert_image(&image, Some(&kernel), &made());
    assert!(matches!(taken, Err(StoreError::NameTaken(name)) if name == "default"));
    assert_eq!(names(), ["base", "default"], "all or nothing");

    let (first, first_kernel) = registered(2, "mine");
    assert_eq!(store.insert_image(&first, Some(&first_kernel), &made()).unwrap(), None);
    let (second, second_kernel) = registered(3, "mine");
    let before = store.insert_image(&second, Some(&second_kernel), &made()).unwrap().unwrap();
    assert_eq!(before.name, first.version_name());
    let expected = ["base", "mine", &before.name, "default", "mine", &first_kernel.version_name()];
    assert_eq!(names(), expected);

    let users = store.delete_kernel(&second_kernel.id);
    assert!(matches!(users, Err(StoreError::InUse(users)) if users == ["mine"]));
    // Another image's VM boots the kernel, which stays; the other one goes with its image.
    let mut user = vm(1, "web");
    user.spec.kernel = second_kernel.id.clone();
    store.insert_vm(&user).unwrap();
    assert_eq!(store.delete_image(&second.id).unwrap(), None);
    assert_eq!(store.delete_image(&before.id).unwrap(), Some(first_kernel.id));
    assert_eq!(names(), ["base", "default", "mine"]);
}

#[test]
fn what_is_remembered_is_settled_at_once() {
    let (_directory, store) = open();
    let (operation, step) = (OperationId::from_random(5), Step::MakeImageDirectory(ImageId::from_random(5)));
    store.journal(&operation, &step).unwrap();
    store.insert_image(&image(5, "other"), None, &operation).unwrap();
    assert!(store.unsettled().unwrap().is_empty());
    // What is not remembered is not settled.
    store.journal(&operation, &step).unwrap();
    store.insert_kernel(&kernel(), &operation).unwrap_err();
    assert_eq!(store.unsettled().unwrap(), [operation]);
}

#[test]
fn a_journal_is_read_backwards_until_it_is_settled() {
    let (_directory, store) = open();
    let operation = OperationId::from_random(1);
    let steps = [Step::ReserveVm(VmId::from_random(1)), Step::MakeVmDirectory(VmId::from_random(1))];
    for step in &steps {
        store.journal(&operation, step).unwrap();
    }
    assert_eq!(store.unsettled().unwrap(), vec![operation.clone()]);
    assert_eq!(store.journaled(&operation).unwrap(), vec![steps[1].clone(), steps[0].clone()]);
    store.settle(&operation).unwrap();
    assert!(store.unsettled().unwrap().is_empty());
}

#[test]
fn only_old_operations_that_have_ended_are_forgotten() {
    let (_directory, store) = open();
    store.put_operation(&operation(1, OperationStatus::Succeeded, 10)).unwrap();
    store.put_operation(&operation(2, OperationStatus::Running, 10)).unwrap();
    store.put_operation(&operation(3, OperationStatus::Failed, 30)).unwrap();
    let pruned = store.prune_operations(jiff::Timestamp::from_second(20).unwrap()).unwrap();
    assert_eq!(pruned, vec![OperationId::from_random(1)]);
    let left: Vec<_> = store.operations(&all()).unwrap().into_iter().map(|operation| operation.id).collect();
    assert_eq!(left, vec![OperationId::from_random(3), OperationId::from_random(2)]);
}

/// Returns the state that is in a directory's files, byte for byte.
fn contents(directory: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    // Whoever reads makes an empty log and an index of it, which is memory that is shared.
    let state = entries.filter(|entry| entry.path().extension().is_none_or(|it| it != "db-shm"));
    let state = state.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()));
    state.filter(|(_, bytes)| !bytes.is_empty()).collect()
}

#[test]
fn a_database_from_the_future_is_refused_and_left_as_it_is() {
    let (directory, store) = open();
    let path = directory.path().join("banger.db");
    let future = rusqlite::Connection::open(&path).unwrap();
    future.pragma_update(None, "user_version", 1000).unwrap();
    // As a crash leaves it: what was written last is in the log alone.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["banger.db", "banger.db-wal"] {
        std::fs::copy(directory.path().join(name), crashed.path().join(name)).unwrap();
    }
    drop((store, future));
    for directory in [&directory, &crashed] {
        let before = contents(directory.path());
        let opened = SqliteStore::open(&directory.path().join("banger.db"));
        assert!(matches!(opened, Err(StoreError::Newer { .. })), "{opened:?}");
        assert!(contents(directory.path()) == before, "it was changed");
    }
}

#[test]
fn a_damaged_database_is_refused_and_left_as_it_is() {
    let (directory, store) = open();
    for number in 1..100 {
        store.put_operation(&operation(number, OperationStatus::Succeeded, 10)).unwrap();
    }
    store.consolidate().unwrap();
    drop(store);
    let path = directory.path().join("banger.db");
    let whole = std::fs::read(&path).unwrap();
    let middle = whole.len() / 2;
    let mut torn = whole.clone();
    torn[middle..middle + 4096].fill(0xa5);
    let halves = [&whole[..middle], &whole[..100], b"no database", &[b'x'; 8192], &torn];
    for damaged in halves {
        std::fs::write(&path, damaged).unwrap();
        let before = contents(directory.path());
        let opened = SqliteStore::open(&path);
        let told = opened.as_ref().map_or_else(ToString::to_string, |_| String::new());
        assert!(matches!(opened, Err(StoreError::Damaged { .. })), "{} bytes: {opened:?}", damaged.len());
        assert!(told.contains("banger.db is damaged: "), "{told}");
        assert!(contents(directory.path()) == before, "it was changed");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(SqliteStore::open(&path).unwrap().operations(&all()).unwrap().len(), 99);
    // One that is empty is a new one.
    std::fs::write(&path, b"").unwrap();
    assert_eq!(SqliteStore::open(&path).unwrap().operations(&all()).unwrap(), []);
}
