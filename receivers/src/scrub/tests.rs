//! The acceptance list of the scrubber, and its two laws: a planted secret never comes out, benign arguments stay to the byte.

use super::*;
use proptest::prelude::*;

const SECRET: &str = "Zx9hunter2Qw";
const AWS_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";

/// `@` stands for the secret.
const SHAPES: &[&[&str]] = &[
    &["app", "--password=@"],
    &["app", "--password", "@"],
    &["app", "--db-password", "@", "--port", "5432"],
    &["app", "-password", "@"],
    &["app", "--pass", "@"],
    &["app", "--token", "@"],
    &["app", "--token=@"],
    &["app", "--auth-token", "@"],
    &["app", "--api-key", "@"],
    &["app", "--api-key=@"],
    &["app", "--apiKey=@"],
    &["app", "--client-secret", "@"],
    &["app", "--password", "--token", "@"],
    &["/usr/bin/mysql", "-uroot", "-p@", "shop"],
    &["mysqldump", "-u", "root", "-p@"],
    &["sudo", "mysql", "-p@"],
    &["sh", "-c", "exec mysql -uroot -p@ shop"],
    &["sshpass", "-p", "@", "ssh", "host"],
    &["redis-cli", "-a", "@", "ping"],
    &["curl", "-u", "admin:@", "https://host/"],
    &["curl", "-uadmin:@", "https://host/"],
    &["curl", "--user", "admin:@", "https://host/"],
    &["curl", "-sSu", "admin:@", "https://host/"],
    &["sh", "-c", "curl -d 'a=b&client_secret=@&c=d' https://host/"],
    &["xfreerdp", "/u:me", "/p:@", "/v:host"],
    &["env", "PGPASSWORD=@", "MYSQL_PWD=@", "REDIS_AUTH=@", "AWS_SECRET_ACCESS_KEY=@", "psql"],
    &["phoenix", "--config=yaml:exporters::otlp::headers::api-key: @"],
    &["java", "-jar", "a.jar", "--url=jdbc:mysql://h/db?user=u&password=@"],
    &["java", "-jar", "a.jar", "jdbc:sqlserver://h;user=sa;password=@;x=y"],
    &["docker", "login", "-u", "me", "-p", "@"],
    &["env", "DB_PASSWORD=@", "app"],
    &["env", "GITHUB_TOKEN=@", "app"],
    &["env", "NEW_RELIC_LICENSE_KEY=@", "app"],
    &["sh", "-c", "DB_PASSWORD=@ ./run --flag"],
    &["sh", "-c", "export API_TOKEN='@'; ./run"],
    &["bash", "-lc", "cd /srv && SECRET_KEY=\"@\" ./run"],
    &["ssh", "host", "cd /srv && SECRET_KEY=@ ./run"],
    &["bash", "-c", "run --password @ --port 80"],
    &["bash", "-c", "run --password '@' --port 80"],
    &["app", "postgres://user:@@db.example:5432/shop"],
    &["app", "--url=redis://:@@cache:6379/0"],
    &["app", "amqp://u:@@h1,amqp://u:@@h2"],
    &["app", "https://user:@@host/path?x=1"],
    &["app", "user:@@tcp(db:3306)/shop"],
    &["curl", "-H", "Authorization: Bearer @"],
    &["curl", "-H", "Authorization: Basic @"],
    &["curl", "-HAuthorization: Bearer @"],
    &["curl", "--header=Authorization: Token @"],
    &["curl", "-H", "X-Api-Key: @"],
    &["curl", "-H", "X-Api-Key:@"],
    &["curl", "-H", "X-Auth-Token: @"],
    &["curl", "-H", "Cookie: session=@"],
    &["sh", "-c", "curl -H \"Authorization: Bearer @\" https://host/"],
    &["sh", "-c", "curl -H 'X-Api-Key: @' https://host/"],
    &["app", "Server=db;Password=@;Database=shop"],
    &["app", "Server=db;User Id=sa;Pwd=@;"],
    &["app", "--conn=Server=db;Password=@;Database=shop"],
    &["app", "Server=db; Password=@ and more; Database=shop"],
    &["app", "host=db password=@ dbname=shop"],
    &["java", "-Djavax.net.ssl.keyStorePassword=@", "-jar", "a.jar"],
    &["java", "-Ddb.password=@", "Main"],
    &["java", "-Dpwd=@", "-DdbPass=@", "Main"],
    &["docker", "run", "-e", "X_PASSWORD=@", "image"],
    &["docker", "run", "-eX_PASSWORD=@", "image"],
    &["docker", "run", "--env=X_PASSWORD=@", "image"],
    &["docker", "run", "--env", "X_PASSWORD=@ with spaces @", "image"],
    &["phoenix", "--set", "exporters.otlp.headers.x=@"],
    &["phoenix", "--set", "exporters.otlp.headers.api-key=@"],
    &["phoenix", "--set=exporters::otlp::headers::x=@"],
    &["curl", "https://host/a?x=1&api_key=@&y=2"],
    &["curl", "https://host/a?token=@"],
    &["curl", "-d", "{\"user\":\"me\",\"password\":\"@\"}"],
    &["curl", "-d", "{ \"access_token\" : \"@\" }"],
    &["sh", "-c", "curl -d \"{\\\"password\\\":\\\"@\\\"}\" host"],
    &["worker: password=@ busy"],
    &["worker --token @ busy"],
    &["app", "Bearer @"],
    &["AccountName=x;AccountKey=@;EndpointSuffix=core"],
    &["openssl", "rsa", "-passin", "pass:@"],
    &["redis-server", "--requirepass", "@"],
];

fn plant(shape: &[&str], secret: &str) -> Vec<String> {
    shape
        .iter()
        .map(|argument| match *argument {
            // Both the mark and the sign of an address are `@`.
            text if text.contains("@@") => text.replace("@@", &format!("{secret}@")),
            text => text.replace('@', secret),
        })
        .collect()
}

#[test]
fn every_shape_hides_its_secret_and_nothing_else_of_the_command() {
    for shape in SHAPES {
        let planted = plant(shape, SECRET);
        let clean = arguments(&planted);
        assert_eq!(clean.len(), shape.len());
        assert!(!clean.concat().contains(SECRET), "{planted:?} became {clean:?}");
        assert!(clean.concat().contains(REDACTED), "{clean:?}");
    }
}

#[test]
fn what_it_looks_like_afterwards() {
    for (argv, expected) in [
        (vec!["app", "--password", "x1", "--port", "80"], vec!["app", "--password", "[REDACTED]", "--port", "80"]),
        (vec!["mysql", "-uroot", "-px1", "shop"], vec!["mysql", "-uroot", "-p[REDACTED]", "shop"]),
        (vec!["sh", "-c", "A_TOKEN=x1 run; next"], vec!["sh", "-c", "A_TOKEN=[REDACTED] run; next"]),
        (vec!["app", "pg://u:x1@h:1/d"], vec!["app", "pg://u:[REDACTED]@h:1/d"]),
        (vec!["curl", "-H", "Authorization: Bearer x1"], vec!["curl", "-H", "Authorization: [REDACTED]"]),
        (vec!["a", "S=d;Password=x1;D=y"], vec!["a", "S=d;Password=[REDACTED];D=y"]),
        (vec!["a", "h?token=x1&b=2"], vec!["a", "h?token=[REDACTED]&b=2"]),
        (vec!["a", "--set", "k.l=v"], vec!["a", "--set", "k.l=[REDACTED]"]),
        (vec!["a", "--set=k.l=v"], vec!["a", "--set=k.l=[REDACTED]"]),
        (vec!["curl", "-uroot:x1", "h"], vec!["curl", "-uroot:[REDACTED]", "h"]),
        (vec!["sh", "-c", "curl -H \"X-Api-Key: x1\" h"], vec!["sh", "-c", "curl -H \"X-Api-Key: [REDACTED]\" h"]),
        (vec!["a", "{\"password\":\"x1\",\"b\":2}"], vec!["a", "{\"password\":\"[REDACTED]\",\"b\":2}"]),
    ] {
        assert_eq!(arguments(&argv), expected);
    }
}

#[test]
fn tokens_are_known_by_their_shape() {
    for secret in [
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        AWS_SECRET,
        JWT,
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "gho_16C7e42F292c6912E7710c838347Ae178B4a",
        "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz0123456789",
        "glpat-AbCdEf0123456789xyzW",
        "xoxb-123456789012-abcdefABCDEF",
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "npm_abcdefghijklmnopqrstuvwxyz0123456789",
        "hvs.CAESIJ1234567890abcdefghij",
        "0123456789abcdef0123456789abcdef0123NRAL",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIB\n-----END RSA PRIVATE KEY-----",
    ] {
        for argv in [vec!["app", secret], vec!["app", "--x", secret], vec![secret]] {
            let clean = arguments(&argv);
            assert_eq!(clean.last().map(String::as_str), Some(REDACTED), "{argv:?}");
        }
        assert_eq!(text(&format!("app --x={secret}")), format!("app --x={REDACTED}"));
        if !secret.contains([' ', '/']) {
            assert!(!text(&format!("worker on https://{secret}@host/")).contains(secret));
        }
    }
}

#[test]
fn benign_arguments_stay_to_the_byte() {
    for argv in [
        vec!["/usr/bin/postgres", "-D", "/var/lib/postgres", "-p", "5432"],
        vec!["app", "550e8400-e29b-41d4-a716-446655440000", "--id=550e8400-e29b-41d4-a716-446655440000"],
        vec!["git", "checkout", "da39a3ee5e6b4b0d3255bfef95601890afd80709"],
        vec!["git", "fetch", "git@github.com:org/repo.git"],
        vec!["app", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
        vec![
            "docker",
            "run",
            "-p",
            "8080:80",
            "-v",
            "/run/secrets:/run/secrets:ro",
            "--name",
            "x",
            "image:tag@sha256:0123abcd",
        ],
        vec!["docker", "run", "-v", "secrets:/run/secrets", "vault-token:8200"],
        vec!["ssh", "-p", "2222", "user@host"],
        vec!["sshd: user@pts/0"],
        vec!["postgres: checkpointer "],
        vec!["nginx: worker process"],
        vec!["/usr/lib/xorg/Xorg", "-auth", "/run/user/1000/gdm/Xauthority", "vt2"],
        vec![
            "kube-apiserver",
            "--token-auth-file=/etc/tokens.csv",
            "--tls-private-key-file=/etc/k.pem",
            "--secure-port=6443",
        ],
        vec!["kube-scheduler", "--authorization-kubeconfig=/etc/kubernetes/s.conf", "--authorization-mode=Webhook"],
        vec!["env", "GOOGLE_APPLICATION_CREDENTIALS=/etc/gcp/sa.json", "mysql", "--ssl-key=/etc/mysql/key.pem"],
        vec!["vllm", "--max-tokens=100", "--max-tokens", "100"],
        vec!["java", "-Xmx2g", "-Dhttp.proxyPort=8080", "-cp", "a.jar:b.jar", "org.apache.kafka.Kafka"],
        vec!["env", "PWD=/home/x/src", "SSH_AUTH_SOCK=/tmp/ssh-x/agent.1", "LANG=C"],
        vec!["curl", "https://host:8443/path/@scope/pkg@1.0?x=1&y=2#top", "http://[::1]:80/a@b"],
        vec!["sort", "--key=2", "--key", "2", "--sort-key=name"],
        vec!["docker", "login", "--password-stdin", "registry.example.com"],
        vec!["mkdir", "-p", "/a/b"],
        vec!["(sd-pam)"],
        vec!["/lib/systemd/systemd", "--switched-root", "--system", "--deserialize=40"],
        vec!["sh", "-c", "while true; do date >> /tmp/x; sleep 10; done"],
        vec!["app", "/opt/Some/Application/Dir/Lib/ModuleXyz1", "--path=./target/debug/build"],
        vec!["", " ", "ünïcödé", "日本語 --x=日本"],
    ] {
        assert_eq!(arguments(&argv), argv);
    }
}

proptest! {
    #[test]
    fn a_planted_secret_never_comes_out(shape in 0..SHAPES.len(), secret in "Q[A-Za-z0-9!%+,./_~^*-]{9,30}Z") {
        // An unescaped `/` ends the authority of an address, by its grammar.
        let address = SHAPES[shape].iter().any(|argument| argument.contains("@@"));
        let secret = if address { secret.replace('/', "s") } else { secret };
        let planted = plant(SHAPES[shape], &secret);
        let clean = arguments(&planted).join(" ");
        prop_assert!(!clean.contains(&secret), "{:?} became {}", planted, clean);
        prop_assert!(!clean.contains(&secret[3..]), "{:?} became {}", planted, clean);
    }

    #[test]
    fn a_whole_argument_hides_any_secret(secret in "\\PC{1,30}", name in "(--)?[a-z]{0,5}[_-]?(password|token|secret|api_key)") {
        let planted = format!("{name}={secret}");
        prop_assume!(!REDACTED.contains(&secret) && !planted[..name.len()].contains(&secret) && !"=".contains(&secret));
        if !secret.trim_start_matches([' ', '=', ':', '>']).is_empty() {
            prop_assert!(!text(&planted).ends_with(&secret), "{}", planted);
        }
        let pair = arguments(&["app".to_owned(), format!("--{}", name.trim_start_matches('-')), secret.clone()]);
        prop_assert_eq!(&pair[2], REDACTED);
    }

    #[test]
    fn tokens_anywhere(before in "([a-z /:=]{0,8}[ /:=])?", id in "AKIA[A-Z0-9]{16}", git in "ghp_[A-Za-z0-9]{35}7") {
        for secret in [id, git] {
            let clean = text(&format!("{before}{secret}"));
            prop_assert!(!clean.contains(&secret), "{}", clean);
        }
    }

    #[test]
    fn hashes_ids_ports_and_paths_stay(hash in "[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{32}", id in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            port in 1u16.., path in "(/[a-z]{1,9}){1,6}(\\.[a-z]{1,3})?") {
        let argv = vec!["app".to_owned(), hash.clone(), format!("--commit={hash}"), id.clone(), format!("--id={id}"), format!("--port={port}"),
            format!("localhost:{port}"), format!("http://localhost:{port}{path}"), path.clone(), format!("--file={path}"), format!("-I{path}")];
        prop_assert_eq!(arguments(&argv), argv);
    }

    #[test]
    fn no_text_panics_and_clean_text_is_clean(argv in prop::collection::vec("\\PC{0,40}", 0..6)) {
        let once = arguments(&argv);
        prop_assert_eq!(once.len(), argv.len());
    }

    #[test]
    fn shell_like_text_does_not_panic(text in "([a-zé\"'`\\\\;|&()=:@/ .-]|password|://|--set|-c|Bearer ){0,30}") {
        let _ = super::text(&text);
        let _ = arguments(&["sh".to_owned(), "-c".to_owned(), text]);
    }
}
