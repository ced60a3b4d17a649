"""The table: command lines that etcdctl and kvctl are given one after the other, on a fresh server each.

One command a line, in a shell's quotes: variables in front, `<<< text` for standard input behind. {url}, {peer} and
{member} are the server's; {nobody} is a URL where nobody listens. Everything a script could lean on is here: every
command, every flag, and the ways in which they fail. TTLs of about 1000 seconds are compared as such.
"""

from __future__ import annotations

import shlex
from typing import NamedTuple


class Case(NamedTuple):
    line: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    stdin: str


_CHARACTERS = {"{u2028}": "\u2028", "{x7f}": "\x7f", "{x08}": "\b", "{x01}": "\x01"}


def read(line: str, **places: str) -> Case:
    words = shlex.split(line)
    stdin = ""
    if "<<<" in words:
        stdin = words[words.index("<<<") + 1]
        words = words[: words.index("<<<")]
    for name, text in _CHARACTERS.items():
        words = [word.replace(name, text) for word in words]
    environment = {}
    while words and words[0].startswith("ETCDCTL_") and "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = value.format(**places)
    for name, text in places.items():
        words = [word.replace(f"{{{name}}}", text) for word in words]
    return Case(line, tuple(words), environment, stdin)


KEYS = r"""
set /a 1
get /a
set a no-slash
get a
get //a/
get /b/../a
get '/key with/space & ü'
set '/key with/space & ü' 'value with ü <>&"\ '
get '/key with/space & ü'
-o json get '/key with/space & ü'
set /stdin <<< 'from standard input'
set /stdin <<< ''
mk /stdin2 <<< 'made from standard input'
update /stdin2 <<< "two\nlines"
get /stdin2
set -- /dash -value
get /dash
set /dash -- -v2
get /dash
set /dash -v3
set -v3 /dash
set -x -- /a 1
set /a -- -- 1
set -- /a -- 1
set /a 1 -- 2
set /a --ttl -- 1
set --ttl 1000 /dash -- -v4
get -sort -- /a
get /a -h
get /a --help x
get /a x -help=false
set /a 1
set /a/b 1
set
set /only-key
get
get /none
get / /a
get /
get --sort --quorum /a
get -q /a
get --sort=false /a
get -sort=1 -quorum=T /a
get --sort=maybe /a
get /a --sort b
get a --quorum /a
get --unknown /a
get -x /a
get - /a
get -- /a
get --- /a
get -=x /a
get /a --
-o extended get /a
-o json get /a
--output json get /a
--output=extended get /a
-o xml get /a
-o json get /none
-o extended get /none
-o json set / 1
set / 1
set --ttl 1000 /t 1
-o json set --ttl 1000 /t 2
-o extended get /t
-o json get /t
set --ttl 0 /t 1
-o extended get /t
set --ttl -5 /t 1
set --ttl 0x3e8 /t 1
set --ttl x /t 1
set --ttl 99999999999999999999 /t 1
set --ttl /t
set --ttl
set --ttl 1_000 /t 1
set --ttl 0b1111101000 /t 1
set --ttl 01750 /t 1
set --ttl 089 /t 1
set --ttl 1.5 /t 1
set --ttl 9223372036854775807 /t 1
-o json set --ttl 9223372036854775807 /t 1
-o json set --ttl 18446744100 /t 1
set /t 3 --ttl 1000
set /swap 1
set --swap-with-value 1 /swap 2
set --swap-with-value 1 /swap 3
set --swap-with-value '' /swap 4
set --swap-with-index 1 /swap 5
set --swap-with-index -1 /swap 5
set --swap-with-value 4 --swap-with-index 1 /swap 5
set --swap-with-value=4 --ttl=1000 /swap 5
-o json set --swap-with-value 5 /swap 6
-o extended set --swap-with-value 6 /swap 7
set --swap-with-value 1 /swap-none 2
mk /m 1
mk /m 2
-o json mk /m 2
mk
mk /m2
mk --ttl 1000 /m3 1
-o extended mk /m4 1
mk --in-order /queue a
mk --in-order /queue
-o extended mk --in-order --ttl 1000 /queue b
mk --in-order /a c
mkdir /d
mkdir /d
-o json mkdir /d2
-o extended mkdir /d3
mkdir
mkdir --ttl 1000 /d4
mkdir /a
mkdir /a/x
setdir /d5
setdir /d5
setdir --ttl 1000 /d5
-o json setdir /d6
-o extended setdir --ttl 1000 /d6
setdir
setdir /a
updatedir /d5
updatedir --ttl 1000 /d5
-o json updatedir --ttl 1000 /d6
updatedir /none
updatedir /a
updatedir
updatedir /d5 value
update /a 2
update /none 2
update /a
update
update --ttl 1000 /a 3
-o json update /a 4
-o extended update /a 5
update /d 1
set /dir/x 1
set /dir/y/z 2
set /dir/_hidden 3
set /dir/tmp/u 4
set /d 1
ls
ls --sort
ls /
ls /dir
ls --sort /dir
ls --sort -p /dir
ls --sort -r /dir
ls --sort --recursive -p /
ls -r -p --quorum --sort /dir
ls -q /dir
ls /a
ls -p /a
ls /none
-o json ls /none
-o json ls --sort /dir
-o json ls --sort --recursive /dir
-o extended ls --sort /dir
-o json ls /d
-o xml ls /dir
ls /dir /a
ls --sort=0 -rp /dir
get /dir
-o json get /dir
get /dir/_hidden
rm /dir/x
rm /dir/x
-o json rm /dir/x
rm /dir
rm --dir /dir
rm --dir /dir/y
rm --dir /d
rm -o json /d
rm --recursive /dir/y
-o json rm --recursive /dir/tmp
-o extended rm -r /dir
-o json rm /stdin
-o extended rm /stdin2
rm --with-value 0 /a
rm --with-value 5 --with-index 1 /a
rm --with-index 1 /a
-o json rm --with-value 5 /a
rm --with-value 5 /a
rm --dir /m
rm --recursive /m2
rm
rm --recursive /
rm /
rmdir /d2
rmdir /d2
-o json rmdir /d3
-o extended rmdir /d4
set /full/x 1
rmdir /full
-o json rmdir /full
rmdir /m3
rmdir
rmdir --dir /m3
rmdir /
set /w 1
set /w 2
set /w/x 3
set /wd/x 4
setdir /wd/y
rm /w
watch --after-index 1 /a
watch --after-index 1 /w
-o extended watch --after-index 1 /w
-o json watch --after-index 1 /w
-o xml watch --after-index 1 /w
watch --recursive --after-index 1 /wd
watch -r --after-index=1 /
watch --after-index x /w
watch
watch --after-index 1 --forever=false /w
watch --unknown /w
exec-watch
exec-watch /w
exec-watch --unknown /w
set /long 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'
get /long
set /empty ''
-o json get /empty
set /newline "a
b"
-o extended get /newline
-o json get /newline
set /html '<a href="x">&amp;</a>'
-o json get /html
set /control '	'
-o json get /control
set /unprintable '{u2028}{x7f}{x08}{x01}'
-o json get /unprintable
set /emoji '😀'
-o json get /emoji
"""

#: Global flags, variables, and what fails before a server is asked or because none answers.
GLOBAL = r"""
set /a 1
--debug get /a
--debug --no-sync get /a
--debug set --ttl 1000 /a 'x "y" ü'
--debug set --swap-with-value 'x "y" ü' --swap-with-index 3 /a 2
--debug mk --in-order /queue 1
--debug mk /queue 1
--debug mkdir /dir
--debug updatedir --ttl 1000 /dir
--debug update /a 2
--debug rm --dir --recursive --with-value x --with-index 3 /dir
--debug rmdir /dir
--debug ls -r --sort /
--debug watch --after-index 1 -r /
--debug cluster-health
--debug member list
--debug user list
--debug role list
--debug get /none
--no-sync get /a
--no-sync=false get /a
--debug=x get /a
--endpoints {url} get /a
--endpoint {url} get /a
--peers {url} get /a
-C {url} get /a
--endpoints {url}/ get /a
--debug --endpoints {url}/ --no-sync get /a
--endpoints {url} --endpoint {nobody} --peers {nobody} get /a
ETCDCTL_ENDPOINTS= ETCDCTL_ENDPOINT={url} get /a
ETCDCTL_ENDPOINTS= ETCDCTL_PEERS={url} get /a
ETCDCTL_ENDPOINTS={nobody} get /a
ETCDCTL_ENDPOINTS={nobody} --no-sync get /a
ETCDCTL_ENDPOINTS={nobody} --endpoints {url} get /a
--endpoints {nobody},{url} --no-sync get /a
--endpoints {nobody},{url} --no-sync set /a 1
--endpoints {nobody},{url} get /a
--endpoints {nobody} get /a
--endpoints {nobody} --no-sync get /a
--endpoints {nobody} --no-sync set /a 1
--endpoints {nobody} --no-sync mk /a 1
--endpoints {nobody} --no-sync mkdir /a
--endpoints {nobody} --no-sync update /a 1
--endpoints {nobody} --no-sync mk --in-order /a 1
--endpoints {nobody} --no-sync rm /a
--endpoints {nobody} --no-sync rmdir /a
--endpoints {nobody} --no-sync ls
--endpoints {nobody} --no-sync watch /a
--endpoints {nobody} --no-sync exec-watch /a -- true
--endpoints {nobody} --no-sync member list
--endpoints {nobody} --no-sync member add x http://127.0.0.1:1
--endpoints {nobody} --no-sync member remove x
--endpoints {nobody} --no-sync member update x http://127.0.0.1:1
--endpoints {nobody} --no-sync user list
--endpoints {nobody} --no-sync user add a:b
--endpoints {nobody} --no-sync role list
--endpoints {nobody} --no-sync auth enable
--endpoints {nobody} cluster-health
--endpoints {nobody} get
--endpoints {nobody} --debug get /a
--endpoints {nobody} -o json get /a
--endpoints {nobody} --debug --no-sync watch --after-index -1 /a
--endpoints {nobody} --debug --no-sync watch --after-index 7 -r /a/
--endpoints {nobody} --debug --no-sync get ''
--endpoints , --no-sync get /a
--endpoints ' {url}' get /a
--endpoints http://[::1]:1 --no-sync get /a
--endpoints http://[::1 get /a
--endpoints http://127.0.0.1:99999 --no-sync get /a
--endpoints HTTP://127.0.0.1:1 --no-sync get /a
--endpoints foo:1 get /a
--endpoints foo:1 --no-sync get /a
--endpoints ftp://127.0.0.1:1 --no-sync get /a
--endpoints 127.0.0.1:2379 get /a
--endpoints %zz get /a
--endpoints : get /a
--endpoints http://a:b get /a
--endpoints http:// --no-sync get /a
--endpoints {url}/nowhere --no-sync get /a
--endpoints {url},%zz get /a
--timeout 1s --total-timeout 2s get /a
--timeout=1500ms get /a
--timeout 1m0.5s get /a
--timeout 0 --no-sync get /a
--timeout x get /a
--timeout 5 get /a
--timeout '' get /a
--timeout get /a
--timeout
--total-timeout 0 get /a
--total-timeout 0 --no-sync get /a
--total-timeout -1s get /a
--total-timeout x get /a
--cert-file /none --key-file /none get /a
--cert-file /none get /a
--key-file /none get /a
--ca-file /none get /a
ETCDCTL_CA_FILE=/none get /a
ETCDCTL_CERT_FILE=/none ETCDCTL_KEY_FILE=/none get /a
ETCDCTL_CERT_FILE=/none get /a
ETCDCTL_KEY_FILE=/none get /a
--username anna:rose get /a
-u anna:rose get /a
--username anna: get /a
ETCDCTL_USERNAME=anna:rose get /a
--unknown get /a
-x
--=x get /a
--help=x get /a
-o
-o json --output simple get /a
nothing
nothing --help
help nothing
member nothing
user nothing x
role nothing
auth nothing
member --unknown
member list --unknown
member list extra
member add
member add x
member add x http://127.0.0.1
member add x ftp://127.0.0.1:1
member add x http://127.0.0.1:1/path
member add x foo
member remove
member remove zz
member remove n1
member update
member update zz
member update zz http://127.0.0.1:1
member update zz foo
member update zz http://127.0.0.1:1,foo
member list
cluster-health
cluster-health extra
cluster-health --unknown
backup --unknown
--insecure-discovery get /a
"""

USERS = r"""
--debug user add early:<&>
--debug user get early
--debug user grant early --roles root
--debug user remove early
--debug role add early
--debug role grant early --path /x --read
--debug role revoke early --path /x --readwrite
--debug role remove early
--debug auth disable
user list
user list extra
user get
user get nobody
user get a b
user add
user add anna:rose
user add anna:rose
user add bob <<< "secret
"
user add carl <<< ''
user add empty:
user get anna
user list
user passwd anna <<< lily
user passwd nobody <<< lily
user passwd
user grant
user grant anna
user grant anna --roles guest
user grant anna --roles gardener
user grant --roles gardener
user grant nobody --roles guest
user revoke anna
user revoke anna --roles guest
user revoke anna --roles none
user revoke nobody --roles guest
user remove nobody
user remove
user add x --unknown
user grant anna --roles
role list
role list extra
role add
role add gardener
role add gardener
role add a b
role get gardener
role get nobody
role get
role grant gardener
role grant gardener --path garden --read
role grant gardener --path /garden/ --read
role grant gardener --path /a//b --read
role grant gardener --path '/garden*'
role grant gardener --path '/garden*' --read --write
role grant gardener --path '/garden*' --read --readwrite
role grant --path '/garden*' --read
role grant nobody --path '/garden*' --read
role grant gardener --path '/garden*' --read
role grant gardener --path '/shed' --write
role grant gardener --path '/house' --rw
role grant gardener --path '/barn' --readwrite=true
role get gardener
role revoke gardener --path '/house' --write
role revoke gardener --path '/barn' --readwrite
role revoke gardener
role revoke nobody --path /x --read
role get gardener
role remove nobody
role remove
user grant anna --roles gardener --roles guest
user get anna
user grant anna --roles gardener
user revoke anna --roles guest
user get anna
role add second
user grant anna --roles second
user get anna
auth enable
auth enable extra
auth disable extra
user add root:secret
auth enable
-u root:secret auth enable
-u root:secret user list
-u root:secret role list
-u root:secret user get anna
-u root:wrong user list
-u anna:lily user list
-u anna:lily user add x:y
-u anna:lily role add x
-u anna:lily role get gardener
-u anna:lily auth disable
-u root:secret role revoke guest --path '/*' --readwrite
-u root:secret role get guest
-u anna:lily set /garden/rose red
-u anna:lily set /shed 1
-u anna:lily get /garden/rose
-u anna:lily get /shed
-u anna:wrong get /garden/rose
-u nobody:wrong get /garden/rose
-u anna get /garden/rose <<< lily
ETCDCTL_USERNAME=anna:lily get /garden/rose
get /garden/rose
-o json get /garden/rose
set /garden/rose 1
mk /x 1
mkdir /x
rm /garden/rose
rmdir /x
ls
ls /garden
watch /garden
user list
user add x:y
role list
role get guest
auth disable
member list
member add x http://127.0.0.1:1
member remove {member}
cluster-health
-u anna:lily member add x http://127.0.0.1:1
-u root:secret role remove gardener
-u root:secret user remove root
-u root:secret user remove anna
-u anna:lily get /garden/rose
-u root:wrong auth disable
-u root:secret auth disable
-u root:secret auth disable
get /garden/rose
user remove root
"""

#: The last one leaves a single member without a quorum, so nothing is asked of it afterwards.
MEMBERS = r"""
--debug member add n2 http://127.0.0.1:1
member list
member remove {member}0
"""

#: The layout of the helps; what kvctl adds to them is left out of the comparison.
HELP = r"""
-v
--version
--version get
help get
h get
get --help
get -h
get --help --sort
member
member --help
member help list
member list --help
member add --help
member remove -h
member update -h
user
user add -h
user get -h
user list -h
user remove -h
user grant -h
user revoke -h
user passwd -h
role
role add -h
role get -h
role list -h
role remove -h
role grant -h
role revoke -h
auth
auth enable -h
auth disable -h
cluster-health -h
mk -h
mkdir -h
rm -h
rmdir -h
ls -h
set -h
setdir -h
update -h
updatedir -h
watch -h
exec-watch -h

help
-h
help get extra
get --unknown
member list --unknown
member --unknown
"""

SCENES = {
    "help": HELP,
    "keys": KEYS,
    "global": GLOBAL,
    "users": USERS,
    "members": MEMBERS,
}


#: What is run against which server. The helps ask none.
RUNS = [("kvstored", scene) for scene in SCENES] + [("etcd", scene) for scene in SCENES if scene != "help"]


def lines(scene: str) -> list[str]:
    """The command lines of a scene; a quoted line feed does not end one."""
    found: list[str] = []
    open_line = ""
    for line in SCENES[scene].strip("\n").splitlines():
        open_line = f"{open_line}\n{line}" if open_line else line
        try:
            shlex.split(open_line)
        except ValueError:
            continue
        found.append(open_line)
        open_line = ""
    assert not open_line, open_line
    return found
