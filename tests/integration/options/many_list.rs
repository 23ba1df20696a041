//! The sources of `-t`: operands and lists, and combinations that make no sense.

use crate::harness::os;
use crate::options::many::{and, ground, list};

#[test]
fn options_that_make_no_sense_together_are_a_usage_error() {
    let sandbox = ground();
    sandbox.mkdir("other");
    sandbox.write("other/a", "");
    sandbox.write("-", "");
    sandbox.write("list", "s/a");
    let zeros = "0".repeat(64);
    let cases: [(&[&str], &str); 19] = [
        (
            &["-t", "d", "s/a", "s/b", "other/a"],
            "'s/a' and 'other/a' have the same base name",
        ),
        (&["-t", "d", "s/a", "s/a"], "the same base name"),
        (&["-t", "d", "-"], "'./-'"),
        (&["-t", "d", "s/a", "-"], "'./-'"),
        (&["-t", "d", "s/a/"], "'s/a/'"),
        (&["-t", "d", "s/."], "'s/.'"),
        (&["-t", "d", ".."], "'..'"),
        (&["-t", "d", "/"], "'/'"),
        (&["-t", "d", "s/a", ""], "SOURCE 2 has an empty name"),
        (&["-t", "d"], "SOURCE is missing"),
        (&["-t", "", "s/a"], "DIR is empty"),
        (&["-t", "d", "--files0-from=list", "s/b"], "'s/b'"),
        (&["-t", "d", "--files0-from=list", "--", "s/b"], "'s/b'"),
        (&["--files0-from=list", "s/b"], "--target-directory"),
        (&["-a", "-t", "d", "s/b"], "--append"),
        (&["--lock", "-t", "d", "s/b"], "--lock"),
        (&["--sha256", &zeros, "-t", "d", "s/b"], "--sha256"),
        (&["--inplace", "-t", "d", "s/b"], "--inplace"),
        (&["--inplace=always", "-t", "d", "s/b"], "--inplace"),
    ];
    for (words, part) in cases {
        sandbox.atomwrite(words.to_vec()).says(part).fails(2);
    }
    let lists: [(&[&[u8]], &str); 3] = [
        (&[b"s/a", b"other/a"], "the same base name"),
        (&[b"s/a", b"-"], "'./-'"),
        (&[b"s/a", b"", b"s/b"], "SOURCE 2 has an empty name"),
    ];
    for (names, part) in lists {
        sandbox
            .atomwrite(["-t", "d", "--files0-from=-"])
            .stdin(list(names))
            .says(part)
            .fails(2);
    }
}

#[test]
fn a_list_names_the_sources() {
    let odd = b"s/new\nline";
    for from_stdin in [false, true] {
        for ended in [false, true] {
            let sandbox = ground();
            sandbox.write(os(odd), "odd");
            let mut list = list(&[b"s/c", odd]);
            if !ended {
                list.pop();
            }
            sandbox.write("list", &list);
            let names = and(&sandbox, &["d/c", "d/new\nline"]);
            let run = if from_stdin {
                sandbox
                    .atomwrite(["-t", "d", "--files0-from=-"])
                    .stdin(list)
            } else {
                sandbox.atomwrite(["-t", "d", "--files0-from", "list"])
            };
            run.leaves(names).succeeds();
            assert_eq!(sandbox.text("d/c"), "new c");
            assert_eq!(sandbox.text("d/new\nline"), "odd");
        }
    }
}

#[test]
fn an_empty_list_succeeds_if_that_is_allowed() {
    let sandbox = ground();
    sandbox
        .atomwrite(["-v", "-t", "d", "--allow-empty", "--files0-from=-"])
        .leaves_alone(0);
    // But an impossible DIR is an error.
    sandbox
        .atomwrite(["-t", "missing", "--allow-empty", "--files0-from=-"])
        .says("'missing'")
        .fails(1);
}

#[test]
fn a_list_that_cannot_be_read_is_an_error() {
    let sandbox = ground();
    let from = |list: &'static str| sandbox.atomwrite(["-t", "d", "--files0-from", list]);
    from("-")
        .closed(&[0])
        .says("list of files")
        .says("closed")
        .fails(1);
    from("missing").says("list of files 'missing'").fails(1);
    from("s").says("list of files 's'").fails(1);
}
