"""Who a container's processes are: the config, the image's passwd and group, and what Status says of it."""
import grpc
import pytest

from cri import code_of, env
from daemon import wait_for
from stubs import pb

# User 1000 (default-user) is in its own group and, by /etc/group, in 50000.
IMAGE = "gcr.io/k8s-staging-cri-tools/test-image-predefined-group"
MERGE, STRICT = pb.Merge, pb.Strict


def number(value):
    return pb.Int64Value(value=value)


def identity(**fields):
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**fields))


@pytest.mark.parametrize("fields,uid,gid,groups", [
    ({}, 1000, 1000, [1000, 50000]),
    ({"supplemental_groups_policy": STRICT}, 1000, 1000, [1000]),
    ({"supplemental_groups": [7, 50000, 8]}, 1000, 1000, [1000, 50000, 7, 8]),
    ({"supplemental_groups": [7, 8], "supplemental_groups_policy": STRICT}, 1000, 1000, [1000, 7, 8]),
    ({"run_as_user": number(1000)}, 1000, 1000, [1000, 50000]),
    ({"run_as_user": number(1000), "run_as_group": number(3)}, 1000, 3, [3, 50000]),
    ({"run_as_user": number(1000), "run_as_group": number(3), "supplemental_groups_policy": STRICT}, 1000, 3, [3]),
    ({"run_as_username": "default-user", "run_as_group": number(3)}, 1000, 3, [3, 50000]),
    ({"run_as_user": number(0)}, 0, 0, [0]),
    ({"run_as_user": number(4242)}, 4242, 0, [0]),
    ({"run_as_user": number(4294967294), "run_as_group": number(4294967294)}, 4294967294, 4294967294, [4294967294]),
])
def test_user_and_groups(cri, pod, fields, uid, gid, groups):
    """The same in the first process, in an exec, and in Status."""
    container = cri.create(pod, ["sh", "-c", "id -u; id -g; id -G; sleep 3600"], image=IMAGE, linux=identity(**fields))
    assert not cri.status(container).HasField("user")  # nobody knows before the start
    cri.StartContainer(container_id=container)
    want = [str(uid), str(gid), " ".join(str(g) for g in [gid] + sorted(groups[1:]))]  # the kernel sorts them
    assert cri.sh(container, "id -u; id -g; id -G").splitlines() == want
    wait_for(lambda: [line.text for line in cri.log_lines(container)] == want, 10, "the first process says the same")
    user = cri.status(container).user.linux
    assert (user.uid, user.gid, list(user.supplemental_groups)) == (uid, gid, groups)


@pytest.mark.parametrize("fields,words", [
    ({"run_as_group": number(7)}, "linux.security_context.run_as_group: is set without run_as_user"),
    ({"run_as_user": number(1), "run_as_username": "x"}, "run_as_user and run_as_username are both set"),
    ({"run_as_user": number(-1)}, "linux.security_context.run_as_user: -1 is not between"),
    ({"run_as_user": number(4294967295)}, "linux.security_context.run_as_user: 4294967295 is not between"),
    ({"supplemental_groups": [1, -5]}, "linux.security_context.supplemental_groups: -5 is not between"),
    ({"supplemental_groups_policy": 7}, "linux.security_context.supplemental_groups_policy: unknown policy 7")])
def test_what_makes_no_sense(cri, pod, fields, words):
    code, text = code_of(cri.create, pod, ["true"], linux=identity(**fields))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and words in text


@pytest.mark.core
@pytest.mark.parametrize("fields,words", [
    ({"run_as_username": "nobody-of-that-name"}, 'user "nobody-of-that-name" is not in the image\'s /etc/passwd'),
    ({"run_as_username": "default-user:nogroup-of-that-name"}, 'group "nogroup-of-that-name" is not in the image')])
def test_a_name_that_the_image_lacks(cri, pod, fields, words):
    container = cri.create(pod, ["true"], image=IMAGE, linux=identity(**fields))
    code, text = code_of(cri.StartContainer, container_id=container)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and words in text
    status = cri.status(container)
    assert (status.exit_code, status.reason) == (128, "StartError") and words in status.message


@pytest.mark.core
def test_home(cri, pod):
    """Of /etc/passwd, unless the environment has one; / for users that are not in it."""
    def home(linux, **more):
        container = cri.run(pod, ["sh", "-c", "echo $HOME; sleep 3600"], linux=linux, **more)
        executed = cri.sh(container, "echo $HOME").strip()
        wait_for(lambda: [line.text for line in cri.log_lines(container)] == [executed], 10, "both say the same")
        return executed

    assert home(identity()) == "/root"
    assert home(identity(run_as_username="www-data")) == "/var/www"
    assert home(identity(run_as_user=number(33))) == "/var/www"
    assert home(identity(run_as_user=number(4242))) == "/"
    assert home(identity(run_as_user=number(33)), envs=env(HOME="/elsewhere")) == "/elsewhere"


@pytest.mark.core
def test_status_remembers_the_user(cri, crispd, pod):
    """Also of a container that has ended, and after a restart of the daemon."""
    linux = identity(run_as_user=number(1000), run_as_group=number(3), supplemental_groups=[9])
    container = cri.run(pod, ["true"], image=IMAGE, linux=linux)
    cri.wait(container)
    crispd.kill()
    crispd.start()
    user = cri.status(container).user.linux
    assert (user.uid, user.gid, list(user.supplemental_groups)) == (1000, 3, [3, 50000, 9])
