//! Programs whose short options carry secrets: the only place where the meaning of an option depends on the program.

use super::scan::Expect;

/// Where the secret of a short option stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// Joined to it: `-pX`.
    Attached,
    /// Joined or in the next argument.
    Both,
}

/// The secret options of a family of programs.
#[derive(Debug)]
pub(super) struct Tool {
    programs: &'static [&'static str],
    options: &'static [(&'static str, Where, Expect)],
}

const LOGIN: Tool = Tool { programs: &["login"], options: &[("-p", Where::Both, Expect::Secret)] };

const TOOLS: &[Tool] = &[
    Tool {
        programs: &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mysqlimport",
            "mysqlcheck",
            "mysqlshow",
            "mysqlslap",
            "mysqlbinlog",
            "mysqlpump",
            "mariadb",
            "mariadb-dump",
            "mariadb-admin",
            "mariadb-import",
            "mariadb-check",
            "mariadb-show",
            "mycli",
            "xtrabackup",
            "mariabackup",
            "7z",
            "7za",
            "7zr",
            "rar",
            "unrar",
        ],
        options: &[("-p", Where::Attached, Expect::Secret)],
    },
    Tool {
        programs: &[
            "sshpass",
            "mongo",
            "mongosh",
            "mongodump",
            "mongorestore",
            "mongoexport",
            "mongoimport",
            "mongostat",
            "rdesktop",
            "clickhouse-client",
        ],
        options: &[("-p", Where::Both, Expect::Secret)],
    },
    Tool { programs: &["redis-cli", "valkey-cli"], options: &[("-a", Where::Both, Expect::Secret)] },
    Tool {
        programs: &["curl"],
        options: &[
            ("--proxy-user", Where::Both, Expect::After(':')),
            ("--user", Where::Both, Expect::After(':')),
            ("-u", Where::Both, Expect::After(':')),
            ("-U", Where::Both, Expect::After(':')),
        ],
    },
    Tool {
        programs: &["ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami", "ldappasswd", "ldapcompare"],
        options: &[("-w", Where::Both, Expect::Secret)],
    },
    Tool {
        programs: &["zip", "unzip", "ipmitool", "sqlcmd", "osql", "bcp", "mosquitto_pub", "mosquitto_sub"],
        options: &[("-P", Where::Both, Expect::Secret)],
    },
    Tool { programs: &["smbclient", "rpcclient", "mount.cifs"], options: &[("-U", Where::Both, Expect::After('%'))] },
    Tool { programs: &["xfreerdp", "wlfreerdp"], options: &[("/p:", Where::Attached, Expect::Secret)] },
    Tool {
        programs: &["snmpget", "snmpwalk", "snmpbulkwalk", "snmpset"],
        options: &[
            ("-c", Where::Both, Expect::Secret),
            ("-A", Where::Both, Expect::Secret),
            ("-X", Where::Both, Expect::Secret),
        ],
    },
];

/// Programs that take `login -p X`, where `-p` means something else without `login`.
const WITH_LOGIN: &[&str] = &["docker", "podman", "nerdctl", "buildah", "skopeo", "oc", "helm", "az"];

const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "su", "runuser", "busybox"];

/// True for programs whose `-c` is followed by a script.
pub(super) fn is_shell(name: &str) -> bool {
    SHELLS.contains(&name.trim_start_matches('-'))
}

/// The last element of a path, without quotes.
pub(super) fn base_name(word: &str) -> &str {
    let word = word.trim_matches(['"', '\'']);
    word.rsplit('/').next().unwrap_or(word)
}

/// The tool that `word` names or selects, if it does.
pub(super) fn tool(word: &str) -> Option<&'static Tool> {
    let name = base_name(word);
    if name == "login" || WITH_LOGIN.contains(&name) {
        return Some(&LOGIN).filter(|_| name == "login");
    }
    TOOLS.iter().find(|tool| tool.programs.contains(&name))
}

impl Tool {
    /// If `word` is one of the secret options: the length of the option itself and what is secret after it.
    pub(super) fn option(&self, word: &str) -> Option<(usize, Where, Expect)> {
        let alone = self.options.iter().find_map(|&(option, place, expect)| {
            let rest = word.strip_prefix(option)?;
            let long = option.starts_with("--");
            (!long || rest.is_empty() || rest.starts_with('=')).then_some((
                option.len() + usize::from(long && !rest.is_empty()),
                place,
                expect,
            ))
        });
        alone.or_else(|| self.bundle(word))
    }

    /// `-sSu`: the last of several letters takes the next word.
    fn bundle(&self, word: &str) -> Option<(usize, Where, Expect)> {
        let letters = word.strip_prefix('-').filter(|letters| letters.bytes().all(|b| b.is_ascii_alphabetic()))?;
        let takes = |option: &str| {
            option.strip_prefix('-').is_some_and(|letter| letter.len() == 1 && letters.ends_with(letter))
        };
        let (_, place, expect) =
            self.options.iter().find(|(option, place, _)| *place == Where::Both && takes(option))?;
        Some((word.len(), *place, *expect))
    }
}
