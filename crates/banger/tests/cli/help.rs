//! What can be typed, and what cannot.

use crate::support::World;

#[test]
fn the_help_names_what_exists() {
    let world = World::without_daemon();
    insta::assert_snapshot!(world.run(["--help"]), @"
    exit code: 0
    --- stdout
    Real virtual machines for developers, in about the time a container takes

    Usage: banger [OPTIONS] <COMMAND>

    Commands:
      vm          Make, use and look after virtual machines
      image       Look after images: root file systems that VMs are made from
      kernel      Look after kernels that VMs boot
      engine      Look after engines: the programs that run VMs
      op          Look after operations: long pieces of work
      events      Print what changes, as it happens
      daemon      Look after bangerd, the daemon that owns your VMs and images
      config      See and change what is set: defaults of new VMs, mirrors, the web console's address
      system      See what takes space, and delete what nobody uses
      web         Print a link that signs a browser in to the web console, once
      ssh-config  Print how ssh, scp, sftp, rsync and editors reach the VMs, as NAME.banger
      completion  Print a script that completes command lines of banger in a shell
      version     Print the versions of banger and of bangerd
      run         Short for 'vm run': make a VM and run a command or a shell in it
      ps          Short for 'vm ls': list VMs
      exec        Short for 'vm exec': run a command in a VM
      ssh         Short for 'vm ssh': open a shell in a VM
      cp          Short for 'vm cp': copy files into a VM, or out of it
      logs        Short for 'vm logs': print a VM's serial console
      start       Short for 'vm start': boot VMs
      stop        Short for 'vm stop': stop VMs in order
      rm          Short for 'vm rm': delete VMs
      pull        Short for 'image pull': make an image
      images      Short for 'image ls': list images

    Options:
          --json     Print JSON: one document, or one line for each item of a stream
      -h, --help     Print help
      -V, --version  Print version
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["vm", "--help"]), @r"
    exit code: 0
    --- stdout
    Make, use and look after virtual machines

    Usage: banger vm [OPTIONS] <COMMAND>

    Commands:
      create   Make a VM and boot it
      run      Make a VM and run a command or a login shell in it
      ls       List VMs
      show     Show everything about a VM
      exec     Run a command, exactly as given, in a running VM
      ssh      Open a login shell in a running VM, or run a command line with the user's shell
      cp       Copy files and directories into a running VM, or out of it
      start    Boot VMs
      stop     Ask VMs to shut down, and stop those that do not in time
      restart  Stop VMs as 'stop' does, and boot them again
      kill     Stop VMs at once, without asking their guests
      pause    Make VMs stand still, as they are, in memory
      resume   Let paused VMs go on
      trim     Give the host the space back that VMs do not use any more on their disks
      rm       Delete VMs and their disks
      rename   Give a VM another name
      set      Change what a VM is made of
      wait     Wait until VMs are in a state
      ports    Print what listens in a VM, and what reaches it from this host
      stats    Print what VMs take: processors, memory, disk, network, and what that costs the host
      top      Show what all VMs that run take, those that take most first
      forward  Look after the ports of this host that lead into a VM
      console  Attach to a VM's serial console, where Enter has a shell even if nothing else answers
      logs     Print a VM's serial console, or another of its logs

    Options:
          --json  Print JSON: one document, or one line for each item of a stream
      -h, --help  Print help
    --- stderr
    ");
}

#[test]
fn the_help_of_a_noun_names_its_verbs() {
    let world = World::without_daemon();
    insta::assert_snapshot!(world.run(["image", "--help"]), @r"
    exit code: 0
    --- stdout
    Look after images: root file systems that VMs are made from

    Usage: banger image [OPTIONS] <COMMAND>

    Commands:
      ls        List images
      show      Show everything about an image
      pull      Make an image: of a registry's NAME, oci:DIR, tar:FILE, debian:RELEASE and more
      register  Use a root file system of your own where it is, and perhaps a kernel; never written to
      rm        Delete images that no VM uses
      df        Show the space that images and their layers take, and how much of it could go
      prune     Delete images that were superseded and that no VM uses, and layers that were not used
                for a week
      catalog   List images that can be had by name

    Options:
          --json  Print JSON: one document, or one line for each item of a stream
      -h, --help  Print help
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["op", "--help"]), @r"
    exit code: 0
    --- stdout
    Look after operations: long pieces of work

    Usage: banger op [OPTIONS] <COMMAND>

    Commands:
      ls      List operations, the newest first
      show    Show everything about an operation
      watch   Follow an operation until it ends; its failure is the exit code
      cancel  Cancel an operation; what it had begun is undone
      logs    Print an operation's log

    Options:
          --json  Print JSON: one document, or one line for each item of a stream
      -h, --help  Print help
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["daemon", "--help"]), @r"
    exit code: 0
    --- stdout
    Look after bangerd, the daemon that owns your VMs and images

    Usage: banger daemon [OPTIONS] <COMMAND>

    Commands:
      start    Start bangerd; any command that needs it does so, too
      stop     Stop bangerd and wait until it is gone; VMs go on
      restart  Stop bangerd if it runs, and start it; VMs go on
      status   Show whether bangerd runs, and where it keeps things
      logs     Print bangerd's log

    Options:
          --json  Print JSON: one document, or one line for each item of a stream
      -h, --help  Print help
    --- stderr
    ");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a help page is as long as it is")]
fn the_help_of_sessions_tells_their_exit_codes() {
    let world = World::without_daemon();
    insta::assert_snapshot!(world.run(["run", "--help"]), @"
    exit code: 0
    --- stdout
    Short for 'vm run': make a VM and run a command or a shell in it

    Usage: banger run [OPTIONS] [CMD]...

    Arguments:
      [CMD]...
              The command and its arguments, taken as they are

    Options:
          --json
              Print JSON: one document, or one line for each item of a stream

          --name <NAME>
              Its name [default: one is made up]

          --image <IMAGE>
              Name or source of the image [default: the default image]

          --vcpus <N>
              Number of virtual CPUs

      -m, --memory <SIZE>
              Memory, as 512M or 2G

          --disk <SIZE>
              Size of the private disk, as 20G; it takes space only as it fills

          --kernel <KERNEL>
              Name or source of the kernel [default: the default kernel]

          --net <NETWORK>
              Its network [default: nat if the root helper is ready, else user]

              Possible values:
              - user: Outward connections, without root
              - nat:  Addresses of its own, and a name that this host resolves; needs the root helper
              - none: No network card; exec and ssh work all the same

          --allow-host
              Let it reach this host's own addresses, but for the loopback

          --no-peers
              Keep it and your other VMs apart, which else reach each other by nat

          --engine <ENGINE>
              What runs it

              Possible values:
              - auto:        Firecracker where KVM can be used, else QEMU
              - firecracker: Firecracker, with KVM
              - qemu:        QEMU, with KVM where it can be used, else by emulation

              [default: auto]

      -p, --publish <HOST:GUEST>
              Lead ports of this host into it: [ADDRESS:]HOST:GUEST[/udp], or ranges of them, on
              127.0.0.1 without an address

          --auto-forward <WHETHER>
              Lead to what listens in it from 127.0.0.1 by itself, by the same port or the next free one
              [default: on]

              Possible values:
              - on:  It is
              - off: It is not

      -e, --env <NAME=VALUE>
              Set a variable in its sessions: NAME=VALUE, or NAME for the value it has here

      -l, --label <NAME=VALUE>
              Give it a label to find it by: NAME=VALUE, or NAME alone

          --restart <POLICY>
              When to start it again after it has ended

              Possible values:
              - no:         Never
              - on-failure: When it has failed, or the host went down while it ran
              - always:     Then, and when its guest has powered itself off

              [default: no]

          --rm
              Delete it when the program ends, or this client does, however it ends

          --service
              Run the image's own command in it from every boot on, print the VM's name, and return

      -i, --interactive
              Keep standard input open; it always is, so this is for Docker's '-it'

      -t, --tty
              Give the program a terminal

      -u, --user <USER>
              User to run as [default: the image's, else root]

      -w, --workdir <DIR>
              Directory to run in [default: the image's, else the user's home]

          --on-interrupt <detach|cancel>
              What Ctrl-C does while it is made: cancel that, or detach [default: ask; cancel without a
              terminal]

      -h, --help
              Print help (see a summary with '-h')

    Without CMD: a login shell. The exit code is the program's own: 128+N after signal N, 125 when
    banger itself failed.
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["exec", "-h"]), @r"
    exit code: 0
    --- stdout
    Short for 'vm exec': run a command in a VM

    Usage: banger exec [OPTIONS] NAME [--] CMD...

    Arguments:
      <NAME> <CMD>...  The VM's name or id, then the command and its arguments, taken as they are

    Options:
      -i, --interactive       Keep standard input open; it always is, so this is for Docker's '-it'
          --json              Print JSON: one document, or one line for each item of a stream
      -t, --tty               Give the program a terminal
      -u, --user <USER>       User to run as [default: the image's, else root]
      -w, --workdir <DIR>     Directory to run in [default: the image's, else the user's home]
      -e, --env <NAME=VALUE>  Set a variable: NAME=VALUE, or NAME for the value it has here
      -h, --help              Print help

    Arguments arrive unchanged, and no shell is involved. Signals are passed on; a second Ctrl-C within
    two seconds ends the client. The exit code is the program's own: 128+N after signal N, 125 when
    banger itself failed.
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["ssh", "-h"]), @r"
    exit code: 0
    --- stdout
    Short for 'vm ssh': open a shell in a VM

    Usage: banger ssh [OPTIONS] <NAME> [CMD]...

    Arguments:
      <NAME>    The VM's name or id
      [CMD]...  A command line for the user's shell

    Options:
          --json           Print JSON: one document, or one line for each item of a stream
      -u, --user <USER>    User to log in as [default: the image's, else root]
      -t, --tty            Give CMD a terminal; a login shell has one where standard input is one
      -A, --forward-agent  Let the guest use this host's SSH agent while the session lasts
      -h, --help           Print help

    CMD's words are joined with spaces and given to the user's shell, as ssh does. The exit code is the
    shell's own.
    --- stderr
    ");
}

#[test]
fn the_help_of_verbs_tells_what_they_take() {
    let world = World::without_daemon();
    insta::assert_snapshot!(world.run(["cp", "-h"]), @r"
    exit code: 0
    --- stdout
    Short for 'vm cp': copy files into a VM, or out of it

    Usage: banger cp [OPTIONS] NAME:SRC... DST
           banger cp [OPTIONS] SRC... NAME:DST

    Arguments:
      <SRC> <DST>...  Files and directories to copy, and where to; one side is NAME:PATH

    Options:
          --json         Print JSON: one document, or one line for each item of a stream
      -L, --dereference  Copy what links lead to
      -u, --user <USER>  User in the VM [default: the image's, else root]
      -h, --help         Print help

    NAME:PATH is a path in the VM; without a slash at its beginning it is relative to the user's home,
    and NAME: is the home itself. A path of this host with a colon in it is written ./a:b. Directories
    are copied with all that is in them, and SRC/. is what is in SRC. Links stay links, permissions and
    times are kept, and no file stands under its name before it is complete.
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["vm", "set", "-h"]), @"
    exit code: 0
    --- stdout
    Change what a VM is made of

    Usage: banger vm set [OPTIONS] <NAME>

    Arguments:
      <NAME>  The VM's name or id

    Options:
          --json                    Print JSON: one document, or one line for each item of a stream
          --vcpus <N>               Number of virtual CPUs
      -m, --memory <SIZE>           Memory, as 512M or 2G
          --disk <SIZE>             Size of the private disk, as 20G; it can only grow
          --engine <ENGINE>         What runs it: firecracker or qemu
          --restart <POLICY>        When to start it again after it has ended [possible values: no,
                                    on-failure, always]
          --auto-forward <WHETHER>  Lead to what listens in it from 127.0.0.1 by itself [possible
                                    values: on, off]
          --net <NETWORK>           Its network [possible values: user, nat, none]
          --no-peers <WHETHER>      Keep it and your other VMs apart, from its next start on [possible
                                    values: on, off]
          --allow-host <WHETHER>    Let it reach this host's own addresses, but for the loopback, from
                                    its next start on [possible values: on, off]
      -l, --label <NAME=VALUE>      Give it a label, or a label another value: NAME=VALUE, or NAME alone
          --remove-label <NAME>     Take a label away
      -h, --help                    Print help (see more with '--help')

    vCPUs, memory, disk, network and engine change while the VM is stopped, the others at any time.
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["vm", "wait", "-h"]), @r"
    exit code: 0
    --- stdout
    Wait until VMs are in a state

    Usage: banger vm wait [OPTIONS] <NAME>...

    Arguments:
      <NAME>...  Names or ids of VMs

    Options:
          --for <WHAT>         A state (stopped, running, paused, failed), ssh for sessions, or
                               port:NUMBER for what listens [default: stopped]
          --json               Print JSON: one document, or one line for each item of a stream
          --timeout <SECONDS>  Seconds after which to give up [default: never]
      -h, --help               Print help

    A VM that is deleted counts as stopped. One that ends otherwise than waited for, and that nothing
    starts again, is an error at once.
    --- stderr
    ");
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    let world = World::without_daemon();
    for arguments in [
        &["vm"] as &[&str],
        &["frobnicate"],
        &["vm", "create", "Not_A_Name"],
        &["vm", "create", "--memory", "lots"],
        &["vm", "create", "--vcpus", "0"],
        &["vm", "create", "-p", "80"],
        &["vm", "create", "-e", "=x"],
        &["vm", "create", "--net", "moon"],
        &["exec", "web"],
        &["vm", "show", ""],
        &["vm", "logs", "--serial", "--engine", "web"],
        &["image", "build"],
        &["vm", "set", "web"],
        &["vm", "set", "web", "--restart", "sometimes"],
        &["vm", "create", "--label", "a b"],
        &["vm", "ls", "--filter", "name"],
        &["vm", "wait", "web", "--for", "starting"],
        &["vm", "wait", "web", "--timeout", "soon"],
        &["vm", "rename", "web"],
        &["vm", "forward", "add", "web"],
        &["vm", "forward", "rm", "web", "80"],
        &["vm", "logs", "-n", "-1", "web"],
        &["cp", "web:x"],
        &["completion", "tcsh"],
    ] {
        let ended = world.run(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {ended}");
        assert!(ended.stdout.is_empty(), "{arguments:?}: {ended}");
    }
    assert!(!world.path().join("data").exists(), "an error of usage must not start anything");
}
