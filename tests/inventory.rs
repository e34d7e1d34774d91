//! Inventories from the outside: every error's exact words, precedence, selections, the example file.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers may fail it")]

#[path = "corpus/mod.rs"]
mod corpus;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fleet::inventory::{Inventory, LocalSecrets, Names, Overrides, SecretUse, Secrets, Selector, Target};
use fleet::ssh_config::{Local, SshConfig};
use fleet::{
    AgentUse, BecomeBy, Error, ErrorKind, Host, HostKeyPolicy, Identity, Result, Route, Secret, SecretRef, Var,
};

use proptest::prelude::{ProptestConfig, Strategy, prop, prop_assert, prop_assert_eq, proptest};

fn parse(text: &str) -> Inventory {
    Inventory::parse(text, Path::new("hosts.toml")).unwrap()
}

fn selector(hosts: &[&str]) -> Selector {
    let mut selector = Selector::default();
    selector.hosts = hosts.iter().map(ToString::to_string).collect();
    selector
}

/// Returns the whole message of an error that must be of the kind `Usage`.
fn usage(error: impl std::borrow::Borrow<Error>) -> String {
    let error = error.borrow();
    assert_eq!(error.kind(), ErrorKind::Usage);
    error.chain()
}

/// Gives `secret of HOST for USE` for whatever is asked, and notes it.
#[derive(Default)]
struct Noted(Vec<String>);

impl Secrets for Noted {
    fn fetch(&mut self, reference: &SecretRef, what: &SecretUse, host: &str) -> Result<Secret> {
        self.0.push(format!("{reference:?} {} {host}", what.as_str()));
        match reference {
            SecretRef::Env(name) if name == "UNSET" => Err(Error::new(ErrorKind::Usage, "UNSET is not set")),
            _ => Ok(Secret::new(format!("{reference:?}"))),
        }
    }
}

/// Flags for a home directory without keys.
fn no_keys() -> Overrides {
    let mut overrides = Overrides::default();
    overrides.home = Some(PathBuf::from("/nowhere"));
    overrides
}

fn try_resolve(inventory: &Inventory, hosts: &str, overrides: &Overrides) -> Result<Vec<Arc<Host>>> {
    let targets = inventory.select(&selector(&[hosts]))?;
    Ok(inventory.resolve(&targets, overrides, &mut Noted::default())?.hosts)
}

fn resolve(text: &str, hosts: &str) -> Vec<Arc<Host>> {
    try_resolve(&parse(text), hosts, &no_keys()).unwrap()
}

fn resolve_error(text: &str, hosts: &str) -> String {
    usage(try_resolve(&parse(text), hosts, &no_keys()).unwrap_err())
}

#[test]
fn a_bad_inventory_names_file_line_key_and_mend() {
    let secret = "write \"env:NAME\", \"file:PATH\", \"cmd:COMMAND\", \"ask\" or { literal = \"…\" }";
    let secret = format!("is not a reference to a secret: {secret}");
    for (text, message) in [
        ("[group.web]", "1: unknown table \"group\": did you mean \"groups\"?"),
        ("user = 'x'", "1: unknown key \"user\""),
        ("defaults = 1", "1: [defaults] must be a table, not an integer"),
        ("groups = 1", "1: [groups] must be a table, not an integer"),
        ("[hosts]\na = 'x'", "2: [hosts.a] must be a table, not a string: write a = { address = … }"),
        ("[groups]\na = ['x']", "2: [groups.a] must be a table, not a list: write a = { hosts = […] }"),
        ("hosts = ['x']", "1: [hosts] must be a table, not a list: write [groups.NAME] and hosts = […] below it"),
        ("[hosts.a]\nhostname = 'x'", "2: unknown key \"hostname\" in [hosts.a]: did you mean \"address\"?"),
        ("[defaults]\nkey_file = 'x'", "2: unknown key \"key_file\" in [defaults]: did you mean \"identity\"?"),
        ("[groups.web]\n\nusr = 'x'", "3: unknown key \"usr\" in [groups.web]: did you mean \"user\"?"),
        ("[hosts.'a[1-2]']\ncolour = 1", "2: unknown key \"colour\" in [hosts.\"a[1-2]\"]"),
        ("[defaults]\nhostkey = 'off'", "2: unknown key \"hostkey\" in [defaults]: did you mean \"host_key\"?"),
        ("[groups.web]\naddress = 'x'", "2: \"address\" belongs in [hosts.NAME], not in [groups.web]"),
        ("[hosts.a]\nchildren = []", "2: \"children\" belongs in [groups.NAME], not in [hosts.a]"),
        ("[hosts.a]\nuser = 1", "2: \"user\" in [hosts.a] must be a string, not an integer"),
        ("[hosts.a]\nuser = ''", "2: \"user\" in [hosts.a] is empty"),
        ("[hosts.a]\nuser = 'a b'", "2: \"user\" in [hosts.a] contains a space or a control character"),
        ("[hosts.a]\nport = '22'", "2: \"port\" in [hosts.a] must be a whole number from 1 to 65535, not a string"),
        ("[hosts.a]\nport = 0", "2: \"port\" in [hosts.a] must be a whole number from 1 to 65535"),
        ("[hosts.a]\nport = 65536", "2: \"port\" in [hosts.a] must be a whole number from 1 to 65535"),
        ("[hosts.a]\nport = 99999999999999999999", "2: \"port\" in [hosts.a] is too large a number"),
        ("[hosts.a]\nretries = -1", "2: \"retries\" in [hosts.a] must be a whole number, 0 or more"),
        (
            "[hosts.a]\nconnect_timeout = 'soon'",
            "2: \"connect_timeout\" in [hosts.a] must be a duration such as \"10s\", \"500ms\" or \"5m\", or whole seconds",
        ),
        ("[hosts.a]\nconnect_timeout = 0", "2: \"connect_timeout\" in [hosts.a] must be more than 0"),
        (
            "[hosts.a]\nhost_key = 'acceptnew'",
            "2: \"host_key\" in [hosts.a] must be strict, accept-new, off, not \"acceptnew\": did you mean \"accept-new\"?",
        ),
        ("[hosts.a]\nidentity = 1", "2: \"identity\" in [hosts.a] must be a list of strings, not an integer"),
        ("[hosts.a]\nidentity = ['x', 1]", "2: \"identity\" in [hosts.a] must be a string, not an integer"),
        (
            "[hosts.a]\nidentity = 'x'\nkey = 'y'",
            "3: \"key\" in [hosts.a] repeats \"identity\": \"key\" is its short spelling, keep one",
        ),
        ("[hosts.a]\nvars = 'x'", "2: \"vars\" in [hosts.a] must be a table, not a string"),
        ("[hosts.a]\npassword = 'hunter2'", &format!("2: \"password\" in [hosts.a] {secret}")),
        ("[hosts.a]\nanswers = { pin = 'hunter2' }", &format!("2: \"answers\" in [hosts.a] {secret}")),
        (
            "[hosts.a]\nanswers = 'hunter2'",
            "2: \"answers\" in [hosts.a] must be a table of questions and references to secrets, not a string",
        ),
        (
            "[hosts.a]\nanswers = { '' = 'ask' }",
            "2: \"answers\" in [hosts.a] has an answer to every question: write a piece of one",
        ),
        ("[hosts.a]\npassword = 7654321", &format!("2: \"password\" in [hosts.a] {secret}")),
        ("[hosts.a]\npassphrase = { literal = 1 }", &format!("2: \"passphrase\" in [hosts.a] {secret}")),
        ("[hosts.a]\npassword = { hunter2 = 'x' }", &format!("2: \"password\" in [hosts.a] {secret}")),
        (
            "[groups.web]\n[hosts.a]\ngroups = ['wbe']",
            "3: \"groups\" in [hosts.a] names an unknown group \"wbe\": did you mean \"web\"?",
        ),
        (
            "[groups.prod]\nchildren = ['db']",
            "2: \"children\" in [groups.prod] names an unknown group \"db\": add [groups.db]",
        ),
        (
            "[groups.a]\nchildren = ['b']\n[groups.b]\nchildren = ['c']\n[groups.c]\nchildren = ['b']",
            "3: groups form a cycle: b (hosts.toml:3) → c (hosts.toml:5) → b",
        ),
        ("[groups.a]\nchildren = ['a']", "1: groups form a cycle: a (hosts.toml:1) → a"),
        ("[groups.all]", "1: \"all\" cannot name a group: \"all\" always means every host"),
        ("[groups.'a b']", "1: \"a b\" cannot name a group: it contains ' '"),
        ("[groups.a]\nhosts = ['web[1-']", "2: bad hostset \"web[1-\": expected a number at column 7"),
        ("[hosts.'web[3-1]']", "1: bad hostset \"web[3-1]\": the range runs backwards: 3-1 at column 7"),
        ("[groups.a]\nhosts = ['web*']", "2:11: in the hosts of group \"a\": no host matches \"web*\"\n  web*\n  ^"),
        ("[groups.a]\nhosts = [\n'-oProxy'\n]", "3: \"-oProxy\" cannot name a host: it starts with \"-\""),
        ("[hosts.'..']", "1: \"..\" cannot name a host: it names a directory"),
        ("[hosts.'a/b']", "1: \"a/b\" cannot name a host: it contains '/'"),
        (
            "[hosts.'web[01-10]']\n[hosts.web05]",
            "2: host \"web05\" is defined twice: in [hosts.\"web[01-10]\"] on line 1 and in [hosts.web05]",
        ),
        ("[hosts.'a,a']", "1: host \"a\" is defined twice: in [hosts.\"a,a\"] on line 1 and in [hosts.\"a,a\"]"),
        (
            "[hosts.'web[1-3]']\naddress = '10.0.0.[1-2]'",
            "2: \"address\" in [hosts.\"web[1-3]\"] stands for 2 addresses, the name for 3 hosts",
        ),
        ("[hosts.a]\naddress = '10.0.0.1:22'", "2: \"address\" in [hosts.a] holds a port: write it as \"port\""),
        ("[hosts.a]\naddress = 'u@b'", "2: \"address\" in [hosts.a] holds a user name: write it as \"user\""),
        ("[hosts.a]\naddress = 'b:c'", "2: \"address\" in [hosts.a] must be a host name or an IP address"),
        ("[hosts.a]\naddress = 'b;c d'", "2: bad hostset \"b;c d\": expected \",\" at column 5"),
        ("[hosts.a]\npassword = hunter2", "2:12: string values must be quoted, expected literal string"),
        ("[groups.a]\nhosts = [\"a\\nb\"]", "2: bad hostset \"a\\nb\": expected \",\" at column 3"),
        ("[hosts.a]\nport = 2\nport = 3", "3:1: duplicate key"),
        ("[hosts.a\n", "1:9: unclosed table, expected `]`"),
        ("[hosts.a]\nuser = \"x\npassword = 'hunter2'", "2:10: invalid basic string, expected `\"`"),
    ] {
        let error = usage(Inventory::parse(text, Path::new("hosts.toml")).unwrap_err());
        assert_eq!(error, format!("hosts.toml:{message}"), "{text}");
    }
}

#[test]
fn the_nearest_word_holds() {
    let text = r#"
        [defaults]
        user = "d"
        port = 1
        retries = 9
        vars = { a = "d", b = "d", c = "d", d = "d" }
        [groups.site]
        children = ["web"]
        user = "site"
        port = 2
        vars = { a = "site", b = "site", c = "site" }
        [groups.web]
        hosts = ["web[1-2]", "plain:2200", "ops@[::1]:2201"]
        user = "web"
        port = 3
        connect_timeout = "500ms"
        vars = { a = "web", b = "web" }
        [hosts.web1]
        address = "10.0.0.1"
        user = "h"
        port = 4
        host_key = "strict"
        vars = { a = "h" }
        [hosts.alone]
    "#;
    let hosts = resolve(text, "*");
    let logins: Vec<_> = hosts.iter().map(|host| (&*host.name, &*host.user, &*host.address, host.port)).collect();
    assert_eq!(
        logins,
        [
            ("web1", "h", "10.0.0.1", 4),
            ("web2", "web", "web2", 3),
            ("plain:2200", "web", "plain", 2200),
            ("ops@[::1]:2201", "ops", "::1", 2201),
            ("alone", "d", "alone", 1),
        ]
    );
    let web1 = &hosts[0];
    assert_eq!(web1.groups, ["web", "site"]);
    assert_eq!(web1.timeouts.connect, Duration::from_millis(500));
    assert_eq!((web1.host_key, web1.retries), (HostKeyPolicy::Strict, 9));
    let vars: Vec<String> = web1.vars.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(vars, ["a=h", "b=web", "c=site", "d=d"]);

    let mut overrides = no_keys();
    overrides.flags.user = Some("flag".into());
    let hosts = try_resolve(&parse(text), "root@web1:2222,alone,10.9.9.9:23", &overrides).unwrap();
    let logins: Vec<_> = hosts.iter().map(|host| (&*host.name, &*host.user, &*host.address, host.port)).collect();
    assert_eq!(
        logins,
        [("web1", "root", "10.0.0.1", 2222), ("alone", "flag", "alone", 1), ("10.9.9.9:23", "flag", "10.9.9.9", 23),]
    );
}

#[test]
fn groups_that_disagree_at_equal_distance_are_named() {
    let text = r#"
        [groups.a]
        hosts = ["x", "y", "z", "w"]
        user = "a"
        vars = { role = "a", same = 1 }
        [groups.b]
        hosts = ["x", "y", "v"]
        user = "b"
        vars = { same = 1 }
        [groups.c]
        hosts = ["v"]
        vars = { same = 2 }
        [groups.d]
        children = ["a"]
        hosts = ["w"]
        user = "d"
        [hosts.y]
        user = "h"
    "#;
    assert_eq!(
        resolve_error(text, "z,x"),
        "hosts.toml:6: groups \"a\" and \"b\" set \"user\" differently for host \"x\": set it on the host"
    );
    assert_eq!(
        resolve_error(text, "v"),
        "hosts.toml:10: groups \"b\" and \"c\" set \"vars.same\" differently for host \"v\": set it on the host"
    );
    // The host's own word, a flag, and the child over its parent settle it; hosts that are not selected do not matter.
    let users = |hosts: &str| resolve(text, hosts).iter().map(|host| host.user.clone()).collect::<Vec<_>>();
    assert_eq!(users("y"), ["h"]);
    assert_eq!(users("w"), ["a"]);
    assert_eq!(users("z"), ["a"]);
    let mut overrides = no_keys();
    overrides.flags.user = Some("flag".into());
    assert_eq!(try_resolve(&parse(text), "x", &overrides).unwrap()[0].user, "flag");
}

#[test]
fn as_whom_commands_run_is_said_nearest_first() {
    let text = r#"
        [defaults]
        become_user = "app"
        [groups.web]
        hosts = ["web[1-2]"]
        become = "sudo"
        [hosts.web2]
        become = "none"
        [hosts.db]
        become = "sudo"
        become_user = "postgres"
        "#;
    let become_user = |name: &str, overrides: &Overrides| {
        let host = &try_resolve(&parse(text), name, overrides).unwrap()[0];
        host.become_user.as_ref().map(|become_user| become_user.user.clone())
    };
    let mut overrides = no_keys();
    assert_eq!(become_user("web1", &overrides), None, "no commands run there");
    overrides.with_become = true;
    assert_eq!(become_user("web1", &overrides).as_deref(), Some("app"));
    assert_eq!(become_user("web2", &overrides), None);
    assert_eq!(become_user("db", &overrides).as_deref(), Some("postgres"));
    overrides.flags.become_by = Some(BecomeBy::Sudo);
    overrides.flags.become_user = Some("root".into());
    assert_eq!(become_user("web2", &overrides).as_deref(), Some("root"));
    overrides.flags.become_by = Some(BecomeBy::Nothing);
    assert_eq!(become_user("db", &overrides), None);
    let error = usage(Inventory::parse("[defaults]\nbecome = \"sodo\"\n", Path::new("hosts.toml")).unwrap_err());
    assert_eq!(
        error,
        "hosts.toml:2: \"become\" in [defaults] must be sudo or none, not \"sodo\": did you mean \"sudo\"?"
    );
}

#[test]
fn secrets_are_fetched_for_selected_hosts_only() {
    let inventory = parse(
        r#"
        [groups.web]
        hosts = ["web[1-3]"]
        password = "env:WEB"
        become_password = "ask"
        [hosts.db]
        password = "env:UNSET"
        "#,
    );
    let mut secrets = Noted::default();
    let mut overrides = no_keys();
    let targets = inventory.select(&selector(&["@web"])).unwrap();
    let hosts = inventory.resolve(&targets, &overrides, &mut secrets).unwrap().hosts;
    assert_eq!(secrets.0, ["Env(\"WEB\") password web1"]);
    assert!(hosts.iter().all(|host| host.auth.password == Some(Secret::from("Env(\"WEB\")"))));
    assert!(hosts.iter().all(|host| host.become_password.is_none()));

    overrides.with_become = true;
    let hosts = inventory.resolve(&targets, &overrides, &mut secrets).unwrap().hosts;
    assert!(hosts.iter().all(|host| host.become_user.is_none() && host.become_password.is_none()));

    overrides.flags.become_by = Some(BecomeBy::Sudo);
    let hosts = inventory.resolve(&targets, &overrides, &mut secrets).unwrap().hosts;
    assert!(hosts.iter().all(|host| host.become_password == Some(Secret::from("Ask"))));

    let error = usage(try_resolve(&inventory, "db", &overrides).unwrap_err());
    assert_eq!(error, "cannot get the password of host \"db\" (hosts.toml:7): UNSET is not set");
}

#[test]
fn answers_are_the_nearest_table_s_and_fetched_by_their_questions() {
    let inventory = parse(
        "[defaults]\nanswers = { pin = 'env:PIN', 'Verification code' = 'ask' }\n[hosts.a]\n[hosts.b]\nanswers = {}\n\
         [hosts.c]\nanswers = { token = 'env:UNSET' }",
    );
    let mut secrets = Noted::default();
    let overrides = no_keys();
    let targets = inventory.select(&selector(&["a,b"])).unwrap();
    let hosts = inventory.resolve(&targets, &overrides, &mut secrets).unwrap().hosts;
    assert_eq!(secrets.0, ["Ask answers a", "Env(\"PIN\") answers a"]);
    let answers: Vec<_> =
        hosts[0].auth.answers.iter().map(|answer| (&*answer.question, answer.secret.expose())).collect();
    assert_eq!(answers, [("Verification code", "Ask"), ("pin", "Env(\"PIN\")")]);
    assert!(hosts[1].auth.answers.is_empty());
    let error = usage(try_resolve(&inventory, "c", &overrides).unwrap_err());
    assert_eq!(error, "cannot get the answer to \"token\" of host \"c\" (hosts.toml:7): UNSET is not set");

    let config = "Host a\n KbdInteractiveAuthentication no\n";
    let config = SshConfig::parse(config, Path::new("config"), Local::from_system()).unwrap();
    let mut overrides = no_keys();
    overrides.ssh_config = Some(Arc::new(config));
    let resolved = inventory.resolve(&[Target::named("a")], &overrides, &mut Noted::default()).unwrap();
    assert!(resolved.hosts[0].auth.answers.is_empty());
    let warning =
        "answers of defaults (hosts.toml:2) are not given: KbdInteractiveAuthentication no, ssh_config (config:2)";
    assert_eq!(resolved.warnings, [warning]);
}

#[test]
fn keys_are_checked_and_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts.toml");
    let shown = dir.path().display();
    let key = |name: &str, mode: u32| {
        let key = dir.path().join(name);
        std::fs::create_dir_all(key.parent().unwrap()).unwrap();
        std::fs::write(&key, "").unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        Identity::File(key)
    };
    let good = key("keys/good", 0o600);
    let wide = key("keys/wide", 0o644);
    let home = [key(".ssh/id_ed25519", 0o600), key(".ssh/id_rsa", 0o600)];
    let text = r#"
        [groups.g]
        hosts = ["a", "b"]
        key = ["keys/wide", "keys/good"]
        passphrase = "file:pass"
        [hosts.bare]
        passphrase = "ask"
        [hosts.none]
        password = "ask"
        passphrase = "ask"
        [hosts.missing]
        identity = "keys/missing"
        [hosts.directory]
        identity = "keys"
    "#;
    let inventory = Inventory::parse(text, &path).unwrap();
    let mut overrides = Overrides::default();
    overrides.home = Some(dir.path().to_owned());
    let targets = inventory.select(&selector(&["a,b,bare,none"])).unwrap();
    let resolved = inventory.resolve(&targets, &overrides, &mut Noted::default()).unwrap();
    let auth = |index: usize| &resolved.hosts[index].auth;
    assert_eq!(auth(0).identities, [wide, good]);
    assert_eq!(auth(1).passphrase.as_ref().unwrap().expose(), format!("File(\"{shown}/pass\")"));
    assert_eq!(auth(2).identities, home);
    assert_eq!((auth(3).identities.as_slice(), &auth(3).passphrase), (&[][..], &None));
    let warning = format!("key {shown}/keys/wide can be read by others (mode 0644): run chmod 600 {shown}/keys/wide");
    assert_eq!(resolved.warnings, [warning]);

    assert_eq!(
        usage(try_resolve(&inventory, "missing", &overrides).unwrap_err()),
        format!(
            "key {shown}/keys/missing of host \"missing\" ({shown}/hosts.toml:12) does not exist: correct the path or run \
             ssh-keygen -f {shown}/keys/missing"
        )
    );
    assert_eq!(
        usage(try_resolve(&inventory, "directory", &overrides).unwrap_err()),
        format!(
            "key {shown}/keys of host \"directory\" ({shown}/hosts.toml:14) is a directory: name the key file in it"
        )
    );
}

/// Writes the way to a host: `user@address:port` of each bastion, the first to be contacted first.
fn way(host: &Host) -> String {
    let mut hops: Vec<_> = host.bastions().map(|hop| format!("{}@{}:{}", hop.user, hop.address, hop.port)).collect();
    hops.reverse();
    match &host.route {
        Route::Command(command) => command.clone(),
        _ => hops.join(" "),
    }
}

#[test]
fn a_bastion_is_a_host_with_settings_of_its_own() {
    let text = "[defaults]\nuser = 'ops'\n[groups.g]\nhosts = ['a', 'b', 'gate', 'third']\njump = 'gate'\n\
                [hosts.b]\njump = 'none'\n[hosts.gate]\naddress = '10.0.0.1'\nport = 2200\nuser = 'jumper'\n\
                [hosts.c]\njump = 'gate,me@inner:23,ssh://far/'\n[hosts.third]\njump = 'gate,third,b'\n\
                [hosts.d]\njump = 'c'\n[hosts.upper]\njump = 'you@GATE:7'";
    let hosts = resolve(text, "a,b,gate,c,third,d,upper");
    let ways: Vec<_> = hosts.iter().map(|host| (&*host.name, way(host))).collect();
    let gate = "jumper@10.0.0.1:2200";
    let chain = format!("{gate} me@inner:23 ops@far:22");
    assert_eq!(
        ways,
        [
            ("a", gate.to_owned()),
            ("b", String::new()),
            // A group's bastion may be in the group.
            ("gate", String::new()),
            ("third", gate.to_owned()),
            ("c", chain.clone()),
            ("d", format!("{chain} ops@c:22")),
            ("upper", "you@GATE:7".to_owned()),
        ]
    );
    // Hosts share a bastion, and so its connection.
    let (a, third) = (hosts[0].bastion().unwrap(), hosts[3].bastion().unwrap());
    assert!(Arc::ptr_eq(a, third));
}

#[test]
fn flags_about_the_login_are_not_for_bastions() {
    let text = "[defaults]\njump = 'gate'\n[hosts.gate]\nuser = 'jumper'\n[hosts.other]\njump = 'none'\n[hosts.a]";
    let mut overrides = no_keys();
    overrides.flags.user = Some("root".into());
    overrides.flags.port = Some(2222);
    overrides.flags.password = Some(SecretRef::Literal(Secret::from("mine alone")));
    overrides.flags.connect_timeout = Some(Duration::from_secs(3));
    let host = try_resolve(&parse(text), "a", &overrides).unwrap().remove(0);
    let gate = Arc::clone(host.bastion().unwrap());
    assert_eq!((&*host.user, host.port, host.auth.password.is_some()), ("root", 2222, true));
    assert_eq!((&*gate.user, gate.port, gate.auth.password.is_some()), ("jumper", 22, false));
    assert_eq!(gate.timeouts.connect, Duration::from_secs(3));
    // A flag overrides what the inventory says, for the bastion too, and does not lead it to itself.
    overrides.flags.jump = Some("other,gate".into());
    let hosts = try_resolve(&parse(text), "a,gate", &overrides).unwrap();
    let user = &hosts[0].bastion().unwrap().user;
    assert_eq!(way(&hosts[0]), format!("{user}@other:22"));
    assert_eq!(way(&hosts[1]), format!("{user}@other:22 jumper@gate:22"));
    overrides.flags.jump = Some("NONE".into());
    assert_eq!(try_resolve(&parse(text), "a", &overrides).unwrap()[0].route, Route::Direct);
}

#[test]
fn a_jump_that_leads_nowhere_says_so() {
    for (jump, why) in [
        ("a,,b", "\"\" is no bastion: the host is missing"),
        ("x:0", "\"x:0\" is no bastion: \"0\" is no port: expected 1 to 65535"),
        ("-oProxyCommand=x", "\"-oProxyCommand=x\" is no bastion: it cannot be a host's name"),
    ] {
        let text = format!("[hosts.h]\njump = '{jump}'");
        assert_eq!(resolve_error(&text, "h"), format!("host \"h\" (hosts.toml:2): jump: {why}"));
    }
    let text = "[hosts.h]\njump = 'a'\n[hosts.a]\njump = 'b'\n[hosts.b]\njump = 'a'";
    let circle = "host \"b\" (hosts.toml:6): jump: a -> b -> a is a circle: give a jump = \"none\"";
    assert_eq!(resolve_error(text, "h"), circle);
}

const FLEET: &str = r#"
    [groups.web]
    hosts = ["web[1-4]"]
    [groups.db]
    hosts = ["db[1-2]"]
    [groups.prod]
    children = ["db"]
    hosts = ["web[1-2]"]
    [groups."odd:80"]
    hosts = ["odd:90", "2222"]
"#;

fn select(inventory: &Inventory, expression: &str) -> Result<String> {
    let targets = inventory.select(&selector(&[expression]))?;
    Ok(targets.iter().map(|target| &*target.name).collect::<Vec<_>>().join(" "))
}

#[test]
fn selections_read_in_both_spellings() {
    let inventory = parse(FLEET);
    for (expression, names) in [
        ("db1,web1", "web1 db1"),
        ("web[1-3]", "web1 web2 web3"),
        ("web[1-3,1],web2", "web1 web2 web3"),
        ("@web", "web1 web2 web3 web4"),
        ("@prod", "web1 web2 db1 db2"),
        ("@*", "web1 web2 web3 web4 db1 db2 odd:90 2222"),
        ("@web!@prod", "web3 web4"),
        ("@web&@prod", "web1 web2"),
        ("@web^@prod", "web3 web4 db1 db2"),
        ("@web!web1,web1", "web1 web2 web3 web4"),
        ("db*,web?!web4", "web1 web2 web3 db1 db2"),
        ("*!(@web,@db)", "odd:90 2222"),
        ("~/^(web|db)2$/", "web2 db2"),
        ("odd:90", "odd:90"),
        ("@odd:80", "odd:90 2222"),
        ("web1!nothing*", "web1"),
        ("web:&prod", "web1 web2"),
        ("web:db:!prod", "web3 web4"),
        ("all:!web*:!db", "odd:90 2222"),
        ("!web:!db", "odd:90 2222"),
        ("w*,!prod", "web3 web4"),
        ("prod:!~/db/", "web1 web2"),
        ("odd:80:&all", "odd:90 2222"),
        ("web1:2222:&all", "web1 2222"),
        ("@web:!web1", "web2 web3 web4"),
    ] {
        assert_eq!(select(&inventory, expression).unwrap(), names, "{expression}");
    }
}

#[test]
fn what_is_no_host_is_an_error_that_helps() {
    let inventory = parse(FLEET);
    for (expression, message) in [
        ("wbe1", "no host, group or pattern matches \"wbe1\": did you mean \"web1\"?"),
        ("web[3-9],db1", "no host, group or pattern matches \"web[5-9]\""),
        ("web", "no host, group or pattern matches \"web\": a group is written \"@web\""),
        ("prd", "no host, group or pattern matches \"prd\": did you mean \"@prod\"?"),
        ("all", "no host, group or pattern matches \"all\": every host is written \"*\", or -a"),
        ("web:db", "no host, group or pattern matches \"web:db\": hosts are joined with \",\""),
        ("@wbe", "no group is named \"wbe\": did you mean \"web\"?"),
        ("@x*", "no group matches \"x*\""),
        ("x*", "no host matches \"x*\""),
        ("~/x/", "no host matches \"~/x/\""),
        ("web1!nosuch", "no host, group or pattern matches \"nosuch\""),
        ("wbe:!db", "no host, group or pattern matches \"wbe\": did you mean \"web\"?"),
        ("@web!web*", "nothing is selected by -w '@web!web*'"),
        ("root@web1,ops@web1", "\"root@web1\" and \"ops@web1\" are one host: keep one of them"),
        ("web1,,db1", "bad selection: expected a host, a group or a pattern at column 6\n  web1,,db1\n       ^"),
        ("db1,web[1-", "bad selection: expected a number at column 11\n  db1,web[1-\n            ^"),
        ("db1,@web[1-", "bad selection: expected a number at column 12\n  db1,@web[1-\n             ^"),
        (
            "web:&db^web1",
            "bad selection: \"^\" is ClusterShell's, and \":&\", \":!\", \",&\" and \",!\" are Ansible's: use one at column 8\
             \n  web:&db^web1\n         ^",
        ),
        ("web1,~/(/", "bad selection: bad regular expression: unclosed group at column 6\n  web1,~/(/\n       ^"),
        (
            "web1,fe80::1",
            "bad selection: \"fe80::1\" is no address: an IPv6 address stands in brackets: [fe80::1] at column 6\
             \n  web1,fe80::1\n       ^",
        ),
        (
            "h:70000",
            "bad selection: \"h:70000\" is no address: \"70000\" is no port: expected 1 to 65535 at column 1\n  h:70000\n  ^",
        ),
        ("u@-x", "bad selection: \"u@-x\" is no address: it starts with \"-\" at column 1\n  u@-x\n  ^"),
    ] {
        assert_eq!(usage(select(&inventory, expression).unwrap_err()), message, "{expression}");
    }
}

#[test]
fn addresses_are_told_by_how_they_are_written() {
    let inventory = parse(FLEET);
    let targets =
        inventory.select(&selector(&["u@new,new:22,10.0.0.[1-2],[::1],[::1]:22,root@web2:2222,10.0.0.1"])).unwrap();
    let shown: Vec<String> = targets
        .iter()
        .map(|Target { name, address, user, port, .. }| format!("{name} {address:?} {user:?} {port:?}"))
        .collect();
    assert_eq!(
        shown,
        [
            "web2 None Some(\"root\") Some(2222)",
            "u@new Some(\"new\") Some(\"u\") None",
            "new:22 Some(\"new\") None Some(22)",
            "10.0.0.1 Some(\"10.0.0.1\") None None",
            "10.0.0.2 Some(\"10.0.0.2\") None None",
            "[::1] Some(\"::1\") None None",
            "[::1]:22 Some(\"::1\") None Some(22)",
        ]
    );
    for (expression, names) in [
        ("u@a:22,v@a,b:22!a:22", "v@a b:22"),
        ("u@a:22,v@a:22,b:22!v@a:22", "u@a:22 b:22"),
        ("10.0.0.[1-4]!10.0.0.[2-3]", "10.0.0.1 10.0.0.4"),
        ("u@10.0.0.1,10.0.0.2:22!10.0.0.1", "10.0.0.2:22"),
        ("10.0.0.[1-3]&10.0.0.[2-9]", "10.0.0.2 10.0.0.3"),
        ("10.0.0.[1-2]^10.0.0.[2-3]", "10.0.0.1 10.0.0.3"),
    ] {
        assert_eq!(select(&inventory, expression).unwrap(), names, "{expression}");
    }
}

#[test]
fn without_an_inventory_every_name_is_an_address() {
    let none = Inventory::empty();
    assert_eq!(select(&none, "web[1-3],db!web2").unwrap(), "web1 web3 db");
    assert_eq!(
        usage(select(&none, "@web").unwrap_err()),
        "no group is named \"web\": there is no inventory, name one with -i"
    );
    assert_eq!(usage(select(&none, "web*").unwrap_err()), "no host matches \"web*\"");
    assert_eq!(
        usage(none.select(&Selector::default()).unwrap_err()),
        "no inventory and no hosts: name hosts with -w or an inventory with -i"
    );
    let hosts = try_resolve(&none, "root@a:23", &no_keys()).unwrap();
    assert_eq!((&*hosts[0].name, &*hosts[0].address, &*hosts[0].user, hosts[0].port), ("root@a:23", "a", "root", 23));
}

#[test]
fn flags_unite_and_exclude() {
    let inventory = parse(FLEET);
    let names = |change: &dyn Fn(&mut Selector)| {
        let mut selector = Selector::default();
        change(&mut selector);
        let targets = inventory.select(&selector).map_err(usage)?;
        Ok::<_, String>(targets.iter().map(|target| target.name.to_string()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(names(&|_| {}).unwrap(), "web1 web2 web3 web4 db1 db2 odd:90 2222");
    assert_eq!(names(&|s| s.all = true).unwrap(), "web1 web2 web3 web4 db1 db2 odd:90 2222");
    assert_eq!(names(&|s| s.groups = vec!["d*".into()]).unwrap(), "db1 db2");
    assert_eq!(
        names(&|s| {
            s.hosts = vec!["web4".into(), "web3!web3,web1".into()];
            s.groups = vec!["db".into(), "@prod".into()];
            s.exclude = vec!["web2".into(), "nothing*".into(), "db2:&all".into()];
        })
        .unwrap(),
        "web1 web4 db1"
    );
    assert_eq!(
        names(&|s| {
            s.all = true;
            s.groups = vec!["db".into()];
        })
        .unwrap_err(),
        "-a selects every host: leave it out, or -w and -g"
    );
    assert_eq!(
        names(&|s| {
            s.groups = vec!["db".into()];
            s.exclude = vec!["db*".into()];
        })
        .unwrap_err(),
        "nothing is selected by -g 'db' -x 'db*'"
    );
    assert_eq!(names(&|s| s.groups = vec!["d".into()]).unwrap_err(), "no group is named \"d\": did you mean \"db\"?");
    let empty = parse("[defaults]").select(&Selector::default()).unwrap_err();
    assert_eq!(usage(empty), "inventory hosts.toml names no hosts");
}

#[test]
fn names_of_others_are_asked_for() {
    struct Last;
    impl Names for Last {
        fn names(&self, reference: &str) -> Option<Result<Vec<String>>> {
            match reference {
                "run:last:failed" => Some(Ok(vec!["db1".into(), "web2".into()])),
                "run:last:gone" => Some(Ok(vec!["gone".into()])),
                _ => None,
            }
        }
    }
    let inventory = parse(FLEET);
    let select = |expression: &str| {
        let targets = inventory.select_with(&selector(&[expression]), &Last)?;
        Ok::<_, Error>(targets.iter().map(|target| target.name.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(select("@run:last:failed!web*").unwrap(), ["db1"]);
    assert_eq!(usage(select("@run:last:gone").unwrap_err()), "no host, group or pattern matches \"gone\"");
    assert_eq!(usage(select("@run:x").unwrap_err()), "no group is named \"run:x\"");
}

#[test]
fn values_keep_their_types() {
    let text = r#"
        [hosts.a]
        known_hosts = "kh"
        retries = 0
        connect_timeout = 5
        vars = { text = "x", number = 0x10, part = 0.5, yes = true, day = 2026-01-02, list = [1, "a"], table = { k = 1 } }
    "#;
    let inventory = Inventory::parse(text, Path::new("/etc/fleet/hosts.toml")).unwrap();
    let host = &try_resolve(&inventory, "a", &no_keys()).unwrap()[0];
    assert_eq!(host.known_hosts, [PathBuf::from("/etc/fleet/kh")]);
    assert_eq!((host.retries, host.timeouts.connect), (0, Duration::from_secs(5)));
    assert_eq!(host.vars["number"], Var::Integer(16));
    assert_eq!(host.vars["day"], Var::Text("2026-01-02".into()));
    let shown: Vec<String> = host.vars.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(shown, ["day=2026-01-02", "list=1,a", "number=16", "part=0.5", "table=k=1", "text=x", "yes=true"]);
}

#[test]
fn hosts_stand_in_file_order() {
    let text = r#"
        [hosts.z]
        [groups.late]
        hosts = ["m", "b"]
        [hosts.a]
        [hosts.b]
        address = "10.0.0.1"
        [groups.early]
        hosts = ["a", "c"]
    "#;
    assert_eq!(parse(text).hosts().collect::<Vec<_>>(), ["z", "m", "b", "a", "c"]);
}

#[test]
fn names_and_addresses_expand_in_parallel() {
    let hosts = resolve("[hosts.'db[1-3],gw']\naddress = '10.0.0.[5-7],fe80::1'", "*");
    let pairs: Vec<_> = hosts.iter().map(|host| format!("{}={}", host.name, host.address)).collect();
    assert_eq!(pairs, ["db1=10.0.0.5", "db2=10.0.0.6", "db3=10.0.0.7", "gw=fe80::1"]);
}

#[test]
fn the_example_shows_every_key_once() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("inventory.example.toml");
    let inventory = Inventory::load(&path).unwrap();
    assert_eq!(inventory.select(&Selector::default()).unwrap().len(), 24);
    assert_eq!(inventory.members("prod").unwrap().len(), 23);

    let text = std::fs::read_to_string(&path).unwrap();
    let document: toml::Table = text.parse().unwrap();
    let mut keys: Vec<String> = document["defaults"].as_table().unwrap().keys().cloned().collect();
    for kind in ["groups", "hosts"] {
        let tables = document[kind].as_table().unwrap().values();
        keys.extend(tables.flat_map(|table| table.as_table().unwrap().keys().cloned()));
    }
    keys.sort();
    assert_eq!(keys, {
        let mut known: Vec<&str> = fleet::inventory::KEYS.iter().copied().filter(|key| *key != "key").collect();
        known.sort_unstable();
        known
    });
}

#[test]
fn an_agent_signs_for_configured_keys_only_beside_a_password_or_no_key() {
    let inventory = parse(
        "[hosts.a]\n[hosts.b]\nagent = 'run/sock'\n[hosts.c]\nagent = 'none'\n[hosts.d]\nidentity = []\n\
         [hosts.e]\npassword = { literal = 'x' }",
    );
    let targets = inventory.select(&Selector::default()).unwrap();
    let mut overrides = Overrides::default();
    overrides.agent = Some("/tmp/agent".into());
    overrides.home = Some("/nonexistent".into());
    let hosts = inventory.resolve(&targets, &overrides, &mut LocalSecrets::new()).unwrap().hosts;
    let used: Vec<AgentUse> = hosts.iter().map(|host| host.auth.agent.clone()).collect();
    assert!(matches!(&used[1], AgentUse::On(path) if path.ends_with("run/sock")), "{used:?}");
    let limited = || AgentUse::OnlyConfigured("/tmp/agent".into());
    assert_eq!(used[0], AgentUse::On("/tmp/agent".into()));
    assert_eq!(used[2..], [AgentUse::Off, limited(), limited()]);
}

#[test]
fn a_secret_in_the_inventory_is_taken_with_a_warning() {
    let inventory = parse("[hosts.'a,b']\npassword = { literal = 'hunter2' }");
    let mut warnings = Vec::new();
    let mut secrets = LocalSecrets::new().on_warning(|warning| warnings.push(warning.to_owned()));
    let targets = inventory.select(&Selector::default()).unwrap();
    let hosts = inventory.resolve(&targets, &no_keys(), &mut secrets).unwrap().hosts;
    assert_eq!(hosts[1].auth.password.as_ref().unwrap().expose(), "hunter2");
    drop(secrets);
    assert_eq!(warnings.len(), 1);
    assert!(!format!("{inventory:?} {hosts:?} {warnings:?}").contains("hunter2"));
}

/// A random selection, as its operators and terms, with what each term stands for.
fn steps() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..4_usize, 0..TERMS.len()), 1..6)
}

const TERMS: [(&str, &[&str]); 6] = [
    ("web1", &["web1"]),
    ("web[2-3]", &["web2", "web3"]),
    ("@web", &["web1", "web2", "web3", "web4"]),
    ("@prod", &["db1", "db2", "web1", "web2"]),
    ("?b[1-2]", &["db1", "db2"]),
    ("~/4$/", &["web4"]),
];

type NameSet<'n> = BTreeSet<&'n str>;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clustershell_operators_are_set_operators(steps in steps()) {
        let inventory = parse(FLEET);
        let (mut text, mut wanted) = (String::new(), NameSet::new());
        for (index, (op, term)) in steps.into_iter().enumerate() {
            let (written, stands_for) = TERMS[term];
            let other: NameSet<'_> = stands_for.iter().copied().collect();
            let op = if index == 0 { 0 } else { op };
            if index > 0 {
                text.push([',', '!', '&', '^'][op]);
            }
            text.push_str(written);
            wanted = match op {
                0 => &wanted | &other,
                1 => &wanted - &other,
                2 => &wanted & &other,
                _ => &wanted ^ &other,
            };
        }
        let found = select(&inventory, &text).unwrap_or_default();
        prop_assert_eq!(found.split_whitespace().collect::<NameSet<'_>>(), wanted, "{}", text);
    }

    #[test]
    fn ansible_operators_do_not_depend_on_their_order(steps in steps()) {
        let inventory = parse(FLEET);
        let mut text = String::from("web1,!~/none/");
        let (mut unions, mut rest) = (NameSet::from(["web1"]), Vec::new());
        for (op, term) in steps {
            let (written, stands_for) = TERMS[term];
            let other: NameSet<'_> = stands_for.iter().copied().collect();
            text.push_str([",", ":!", ":&", ":"][op]);
            text.push_str(written);
            match op {
                1 | 2 => rest.push((op, other)),
                _ => unions.extend(other),
            }
        }
        let wanted = rest.iter().fold(unions, |all, (op, other)| if *op == 1 { &all - other } else { &all & other });
        let found = select(&inventory, &text).unwrap_or_default();
        prop_assert_eq!(found.split_whitespace().collect::<NameSet<'_>>(), wanted, "{}", text);
    }

    #[test]
    fn no_selection_panics(text in r"([ab@:,!&^()\[\]~/*?. -]|web|[0-9]|db1){0,12}") {
        for inventory in [parse(FLEET), Inventory::empty()] {
            if let Err(error) = select(&inventory, &text) {
                usage(error);
            }
        }
    }

    #[test]
    fn no_inventory_panics(text in "(\\[|\\]|hosts|groups|defaults|\\.|a|b|=|\n|'|\"|,|\\{|\\}|1|port|user|address|children){0,24}") {
        if let Err(error) = Inventory::parse(&text, Path::new("hosts.toml")) {
            prop_assert!(usage(error).starts_with("hosts.toml:"));
        }
    }
}

#[test]
fn ssh_config_fills_what_the_inventory_leaves_open() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "").unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "Host a\n HostName 10.0.0.1\n IdentityFile {}\n IdentityFile /missing/%n\nHost b\n PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nHost gate\n ProxyCommand nc %h %p\nHost *\n User www\n Port 2200\n StrictHostKeyChecking no\n",
        key.display()
    );
    let config = SshConfig::parse(&text, Path::new("config"), Local::from_system()).unwrap();
    let inventory =
        "[hosts.a]\nport = 22\n[hosts.b]\naddress = \"10.0.0.2\"\npassword = { literal = \"x\" }\n[hosts.gate]\n";
    let inventory = Inventory::parse(inventory, Path::new("hosts.toml")).unwrap();
    let mut overrides = Overrides::default();
    overrides.home = Some(dir.path().to_owned());
    overrides.ssh_config = Some(Arc::new(config));
    let resolve = |name: &str| inventory.resolve(&[Target::named(name)], &overrides, &mut LocalSecrets::new());

    let resolved = resolve("a").unwrap();
    let a = &resolved.hosts[0];
    assert_eq!((&*a.address, a.port, &*a.user), ("10.0.0.1", 22, "www"));
    assert_eq!((a.host_key, &*a.auth.identities), (HostKeyPolicy::Off, &[Identity::File(key)][..]));
    let warning =
        "key /missing/a of ssh_config (config:4) does not exist: correct the path or run ssh-keygen -f /missing/a";
    assert_eq!(resolved.warnings, [warning]);

    let resolved = resolve("b").unwrap();
    assert_eq!((&*resolved.hosts[0].address, resolved.hosts[0].port), ("10.0.0.2", 2200));
    assert_eq!(resolved.hosts[0].auth.password, None);
    let warning = "password of host (hosts.toml:5) is not offered: PasswordAuthentication no, ssh_config (config:6)";
    assert_eq!(resolved.warnings, [warning]);

    assert_eq!(way(&resolve("gate").unwrap().hosts[0]), "nc gate 2200");
    overrides.flags.jump = Some("none".to_owned());
    inventory.resolve(&[Target::named("gate")], &overrides, &mut LocalSecrets::new()).unwrap();
}

#[test]
fn ssh_config_says_which_agent_signs_and_for_which_keys() {
    let text = "Host off\n IdentityAgent none\nHost other\n IdentityAgent /run/other\nHost only\n IdentitiesOnly yes\n\
                Host nokeys\n PubkeyAuthentication no\nHost env\n IdentityAgent SSH_AUTH_SOCK\n";
    let config = SshConfig::parse(text, Path::new("config"), Local::from_system()).unwrap();
    let names = ["off", "other", "only", "nokeys", "env", "plain"];
    let tables: String = names.iter().map(|name| format!("[hosts.{name}]\n")).collect();
    let inventory = Inventory::parse(&tables, Path::new("hosts.toml")).unwrap();
    let mut overrides = Overrides::default();
    overrides.ssh_config = Some(Arc::new(config));
    overrides.agent = Some("/run/mine".into());
    let targets = names.map(Target::named);
    let hosts = inventory.resolve(&targets, &overrides, &mut LocalSecrets::new()).unwrap().hosts;
    let agents: Vec<_> = hosts.iter().map(|host| host.auth.agent.clone()).collect();
    let mine = || AgentUse::On("/run/mine".into());
    let expected = [
        AgentUse::Off,
        AgentUse::On("/run/other".into()),
        AgentUse::OnlyConfigured("/run/mine".into()),
        AgentUse::Off,
        mine(),
        mine(),
    ];
    assert_eq!(agents, expected);
}

#[test]
fn ssh_config_names_certificates_that_are_there_and_lines_without_effect() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = dir.path().join("cert");
    std::fs::write(&certificate, "").unwrap();
    let text = format!(
        "CertificateFile {}\nCertificateFile /missing/cert\nRequestTTY auto\nLogLevel INFO\nBindInterface eth0\n\
         Host b\n RequestTTY yes\n LogLevel DEBUG\n",
        certificate.display()
    );
    let config = SshConfig::parse(&text, Path::new("config"), Local::from_system()).unwrap();
    let inventory = Inventory::parse("[hosts.a]\n[hosts.b]\n", Path::new("hosts.toml")).unwrap();
    let mut overrides = no_keys();
    overrides.ssh_config = Some(Arc::new(config));
    let resolved = inventory.resolve(&[Target::named("a")], &overrides, &mut LocalSecrets::new()).unwrap();
    assert_eq!(resolved.hosts[0].auth.certificates, [certificate]);
    let warning =
        "cannot read certificate /missing/cert of ssh_config (config:2): No such file or directory (os error 2)";
    assert_eq!(resolved.warnings, [warning]);
    let ignored = |name| -> Vec<_> {
        let explained = inventory.explain(&Target::named(name), &overrides).unwrap();
        explained.ignored.into_iter().map(|it| (it.keyword, it.origin.line, it.why)).collect()
    };
    assert_eq!(ignored("a"), [("bindinterface".to_owned(), 5, None)]);
    // What is said first holds, and is heeded.
    assert_eq!(ignored("b"), ignored("a"));
}

#[test]
fn commands_of_ssh_config_run_only_where_they_are_allowed_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let text = format!(
        "Match exec \"echo x >> {}\"\n User ran\nMatch exec \"test %h = a\"\n Port 9\nMatch exec \"exit 3\"\n Port 7\n",
        count.display()
    );
    let config = Arc::new(SshConfig::parse(&text, Path::new("config"), Local::from_system()).unwrap());
    let inventory = parse("[hosts.a]\n[hosts.b]");
    let mut overrides = no_keys();
    overrides.ssh_config = Some(config);
    let targets = ["a", "b"].map(Target::named);
    let resolved = inventory.resolve(&targets, &overrides, &mut LocalSecrets::new()).unwrap();
    assert!(!count.exists() && resolved.warnings.len() == 3, "{:?}", resolved.warnings);
    overrides.match_exec = true;
    let resolved = inventory.resolve(&targets, &overrides, &mut LocalSecrets::new()).unwrap();
    let logins: Vec<_> = resolved.hosts.iter().map(|host| (&*host.user, host.port)).collect();
    assert_eq!((logins, resolved.warnings.len()), (vec![("ran", 9), ("ran", 22)], 0));
    assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
}

const RULES: &str = r#"
[groups.web]
hosts = ["web[1-9]"]
vars = { role = "frontend" }
[groups.canary]
hosts = ["@web!web[3-9]", "~/^db/!db2", "new1"]
[groups.late]
hosts = ["@early"]
[groups.early]
hosts = ["vars.tier=2"]
[groups.tiers]
hosts = ["vars.role=front*&web[8-9]"]
vars = { tier = 2 }
[groups.rest]
hosts = ["*!@canary", "web9^web9"]
children = ["late"]
[groups.db]
hosts = ["db[1-3]"]
"#;

#[test]
fn groups_take_expressions() {
    let inventory = parse(RULES);
    for (group, members) in [
        ("web", "web[1-9]"),
        ("canary", "db[1,3],new1,web[1-2]"),
        ("early", "web[8-9]"),
        ("late", "web[8-9]"),
        ("rest", "db2,web[3-9]"),
    ] {
        assert_eq!(fleet::hostset::fold(inventory.members(group).unwrap()), members, "{group}");
        let selected = inventory.select(&selector(&[&format!("@{group}")])).unwrap();
        assert_eq!(fleet::hostset::fold(selected.iter().map(|target| &*target.name)), members, "@{group}");
    }
    // They are members as if each were named: the group's settings are theirs.
    assert_eq!(inventory.groups_of("web8").unwrap(), ["web", "late", "early", "tiers", "rest"]);
    let explained = inventory.explain(&Target::named("web8"), &no_keys()).unwrap();
    assert_eq!(
        explained.groups,
        [
            "web (hosts.toml:2)",
            "late: @early (hosts.toml:8)",
            "early: vars.tier=2 (hosts.toml:10)",
            "tiers: vars.role=front*&web[8-9] (hosts.toml:12)",
            "rest: *!@canary (hosts.toml:15)",
        ]
    );
}

#[test]
fn what_is_wrong_in_an_expression_of_a_group_is_pointed_at() {
    let web = "[groups.web]\nhosts = ['web[1-9]']\n[groups.x]\nhosts = ";
    let of_x = "in the hosts of group \"x\"";
    for (text, message) in [
        ("['@web!']", format!("4:16: {of_x}: expected a host, a group or a pattern\n  @web!\n       ^")),
        ("['web1', '@wbe']", format!("4:19: {of_x}: no group is named \"wbe\": did you mean \"web\"?\n  @wbe\n  ^")),
        (
            "['@web!wbe7']",
            format!("4:16: {of_x}: no host, group or pattern matches \"wbe7\": did you mean \"web7\"?\n  @web!wbe7\n       ^"),
        ),
        (
            "['@web,db7']",
            format!(
                "4:16: {of_x}: no host, group or pattern matches \"db7\": only an entry without operators adds hosts\n  @web,db7\n       ^"
            ),
        ),
        (
            "\"\"\"@web&10.0.0.1\"\"\"",
            format!(
                "4: {of_x}: no host, group or pattern matches \"10.0.0.1\": only an entry without operators adds hosts\n  @web&10.0.0.1\n       ^"
            ),
        ),
        (
            "['root@web1&@web']",
            format!(
                "4:11: {of_x}: a group's expression takes no user and no port: set them in [hosts.\"web1\"]\n  root@web1&@web\n  ^"
            ),
        ),
        ("['@web!-']", format!("4:16: {of_x}: standard input is not read here\n  @web!-\n       ^")),
        ("['~/[/']", format!("4:11: {of_x}: bad regular expression: unclosed character class\n  ~/[/\n  ^")),
        ("['@x']", format!("4:11: {of_x}: groups form a cycle: x (hosts.toml:3) → x\n  @x\n  ^")),
        ("['vars.a=1']\nvars = { a = 1 }", format!("4:11: {of_x}: groups form a cycle: x (hosts.toml:3) → x\n  vars.a=1\n  ^")),
        (
            "['@y']\n[groups.y]\nhosts = ['@z']\n[groups.z]\nchildren = ['x']",
            "6:11: in the hosts of group \"y\": groups form a cycle: x (hosts.toml:3) → y (hosts.toml:5) → z (hosts.toml:7) → x\n  @z\n  ^"
                .to_owned(),
        ),
    ] {
        let error = Inventory::parse(&format!("{web}{text}"), Path::new("hosts.toml")).unwrap_err();
        assert_eq!(usage(error), format!("hosts.toml:{message}"), "{text}");
    }
}

#[test]
fn groups_take_the_hosts_of_lists_and_of_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("old"), "web2 # the old one\n@db\n").unwrap();
    std::fs::write(path("a.toml"), "[groups.old]\nhosts = ['@file:old', 'vars.dc=eu&@web']\n").unwrap();
    std::fs::write(path("b.ini"), "[web]\nweb[1:3]\nweb4 dc=eu\n[db]\ndb1\n").unwrap();
    let inventory = Inventory::load_all(&[path("a.toml"), path("b.ini")]).unwrap();
    assert_eq!(fleet::hostset::fold(inventory.members("old").unwrap()), "db1,web[2,4]");

    std::fs::write(path("old"), "web2\n@old\n").unwrap();
    let error = usage(Inventory::load_all(&[path("a.toml"), path("b.ini")]).unwrap_err());
    assert!(error.contains("old:2: ") && error.contains("groups form a cycle: old ("), "{error}");
}

#[test]
fn groups_that_need_one_another_in_a_long_row_are_refused() {
    let row = |count: usize| {
        let group = |n| format!("[groups.g{n}]\nhosts = ['@g{}']\n", n + 1);
        (0..count).map(group).collect::<String>() + &format!("[groups.g{count}]\nhosts = ['a']\n")
    };
    assert_eq!(parse(&row(60)).members("g0").unwrap(), ["a"]);
    let error = usage(Inventory::parse(&row(5000), Path::new("hosts.toml")).unwrap_err());
    assert!(error.contains("more than 64 groups need one another"), "{error}");
}

#[test]
fn ansibles_group_variables_hold_for_their_hosts_alone() {
    let text = "lone\nboth\n[ungrouped:vars]\nansible_user=guest\n[web]\nweb1\nweb2 ansible_host=10.0.0.2\nboth\n\
                [web:vars]\nansible_host=10.0.0.9\n[site:children]\nweb\ndb\n[db]\ndb1\n\
                [site:vars]\nansible_host=10.0.0.8\n[all:vars]\nansible_host=10.0.0.7\n";
    let inventory = Inventory::parse(text, Path::new("hosts.ini")).unwrap();
    let hosts = try_resolve(&inventory, "lone,both,web1,web2,db1", &no_keys()).unwrap();
    let found: Vec<String> = hosts.iter().map(|host| format!("{} {}", host.name, host.address)).collect();
    assert_eq!(found, ["lone 10.0.0.7", "both 10.0.0.9", "web1 10.0.0.9", "web2 10.0.0.2", "db1 10.0.0.8"]);
    let guests: Vec<&str> = hosts.iter().filter(|host| host.user == "guest").map(|host| &*host.name).collect();
    assert_eq!(guests, ["lone"]);
}

#[test]
fn directories_of_variables_that_are_not_read_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts.ini");
    std::fs::write(&path, "[web]\nweb1\n").unwrap();
    std::fs::create_dir(dir.path().join("group_vars")).unwrap();
    let inventory = Inventory::load(&path).unwrap();
    let targets = inventory.select(&Selector::default()).unwrap();
    let resolved = inventory.resolve(&targets, &no_keys(), &mut LocalSecrets::new()).unwrap();
    let (vars, shown) = (dir.path().join("group_vars"), path.display());
    let told =
        format!("{} is not read: run ansible-inventory -i {shown} --list >hosts.json, and use that", vars.display());
    assert_eq!(resolved.warnings, [told]);
}
