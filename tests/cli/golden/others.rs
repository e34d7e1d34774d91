//! Inventories that people have already: lists, Ansible's, programs, ssh_config; several at once.

use crate::Fleet;

const INI: &str = "\
; the old inventory
lone

[web]
web1 ansible_host=10.0.0.1 ansible_port=2201 ansible_become_method=su
web[2:3].example rack=7

[web:vars]
ansible_user=www
role=frontend

[prod:children]
web

[all:vars]
dc = 'eu'
";

const JSON: &str = r#"{"db": {"hosts": ["db1", "db2"], "vars": {"ansible_user": "pg"}}, "all": {"children": ["db"]},
 "_meta": {"hostvars": {"db1": {"ansible_host": "10.9.9.9", "rack": 3}}}}"#;

#[test]
fn other_inventories() {
    Fleet::new()
        .file("list", "web[01-03].example # three\n\n10.0.0.5 root@db1:2222\na[1-5]!a3\n")
        .run(&["hosts", "-i", "list", "-v", "-l", "ops"])
        .file("hosts", INI)
        .run(&["hosts", "-i", "hosts", "-v", "-l", "ops", "-w", "@web,lone"])
        .run(&["hosts", "-i", "hosts", "--groups"])
        .run(&["hosts", "-i", "hosts", "--format", "json", "-w", "web:&prod:!web1", "-l", "ops"])
        .run(&["hosts", "-i", "hosts", "-w", "vars.rack=7,vars.dc=eu&lone", "-e"])
        .run(&["hosts", "-i", "hosts", "--explain", "web1", "-F", "none"])
        .file("inv.json", JSON)
        .run(&["hosts", "-i", "inv.json", "-v", "-w", "@db"])
        .script("inv", &format!("[ \"$*\" = --list ] && echo '{JSON}'"))
        .run(&["hosts", "-i", "inv", "-v", "-w", "@db"])
        .script(
            "old",
            "case $1 in --list) echo '{\"db\": [\"a\"]}' ;; *) echo \"{\\\"ansible_host\\\": \\\"$2.x\\\"}\" ;; esac",
        )
        .run(&["hosts", "-i", "old", "-v", "-l", "ops"])
        .file(
            "ssh.conf",
            "Host gate\n  HostName 10.1.1.1\n  Port 2299\nHost inner\n  ProxyJump gate\nHost *\n  User me\n",
        )
        .run(&["hosts", "-i", "ssh.conf", "-v"])
        .golden("other_inventories");
}

#[test]
fn several_inventories() {
    Fleet::new()
        .file("hosts", INI)
        .file(
            "more.toml",
            "[groups.web]\nhosts = [\"web9\"]\n[groups.all_eu]\nchildren = [\"prod\"]\n[hosts.web1]\nretries = 5\n",
        )
        .file("list", "lone\nnew\n")
        .run(&["hosts", "-i", "hosts", "-i", "more.toml", "-i", "list", "--groups"])
        .run(&["hosts", "-i", "hosts", "-i", "more.toml", "-v", "-w", "web1,web9"])
        .file("port.toml", "[hosts.web1]\nport = 2202\n")
        .run(&["hosts", "-i", "hosts", "-i", "port.toml"])
        .file("address.toml", "[hosts.web1]\naddress = \"10.0.0.2\"\n")
        .run(&["hosts", "-i", "hosts", "-i", "address.toml"])
        .file("user.toml", "[groups.web]\nuser = \"root\"\n")
        .run(&["hosts", "-i", "hosts", "-i", "user.toml"])
        .file("vars.toml", "[defaults]\nvars = { dc = \"us\" }\n")
        .run(&["hosts", "-i", "hosts", "-i", "vars.toml"])
        .golden("several_inventories");
}

#[test]
fn wrong_inventories() {
    let mut fleet = Fleet::new();
    for (name, text) in [
        ("range.ini", "[web]\nweb[1-3]\n"),
        ("kind.ini", "[web:childern]\nweb\n"),
        ("child.ini", "[web]\na\n[all2:children]\nwbe\n"),
        ("vars.ini", "[web]\na\n[wbe:vars]\nx=1\n"),
        ("host.ini", "a b\n"),
        ("quote.ini", "a b='c\n"),
        ("port.ini", "\na ansible_port=ssh\n"),
        ("template.ini", "a ansible_host={{x}}\n"),
        ("list", "a\nb! c[1\n"),
        ("groups.txt", "a\n@web\n"),
        ("empty.json", "\n"),
        ("bad.json", "{\"web\": 3}"),
        ("cut.json", "{\"web\": "),
        ("hosts.yml", "all:\n"),
        ("script", "#!/bin/sh\n"),
        ("wrong.conf", "Host a\n  Port\n"),
        ("member.toml", "[groups.web]\nhosts = [\"web[1-9]\"]\n[groups.canary]\nhosts = [\n  \"@web!wbe7\",\n]\n"),
        ("cycle.toml", "[groups.a]\nhosts = [\"@b\"]\n[groups.b]\nhosts = [\"@a!web1\"]\n"),
    ] {
        fleet = fleet.file(name, text).run(&["hosts", "-i", name]);
    }
    fleet
        .run(&["hosts", "-i", "."])
        .script("fails", "echo connecting >&2; echo no credentials >&2; exit 3")
        .run(&["hosts", "-i", "fails"])
        .script("babbles", "echo hello")
        .run(&["hosts", "-i", "babbles"])
        .script("silent", "exit 0")
        .run(&["hosts", "-i", "silent"])
        .script("dies", "kill -9 $$")
        .run(&["hosts", "-i", "dies"])
        .golden("wrong_inventories");
}
