from pathlib import Path

import pytest

from neuralrank.errors import Unsupported
from neuralrank.stack.toolchain import find_jdk, find_maven


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def make_jdk(home: Path, version: str, compiler: bool = True) -> Path:
    executable(home / "bin" / "java")
    if compiler:
        executable(home / "bin" / "javac")
    (home / "release").write_text(f'IMPLEMENTOR="test"\nJAVA_VERSION="{version}"\n')
    return home


def test_the_oldest_that_is_new_enough_is_taken(tmp_path: Path) -> None:
    for version in ("1.8.0_402", "17.0.15", "25.0.3", "21.0.2"):
        make_jdk(tmp_path / f"jdk-{version}", version)
    jdk = find_jdk({}, [str(tmp_path)])
    assert (jdk.home, jdk.version) == (tmp_path / "jdk-21.0.2", 21)


@pytest.mark.parametrize("name", ["OPENSEARCH_JAVA_HOME", "JAVA_HOME"])
def test_what_the_environment_names_wins(tmp_path: Path, name: str) -> None:
    make_jdk(tmp_path / "jvm" / "21", "21")
    named = make_jdk(tmp_path / "mine", "25.0.3")
    assert find_jdk({name: str(named)}, [str(tmp_path / "jvm")]).home == named


def test_an_old_one_in_the_environment_is_passed_over(tmp_path: Path) -> None:
    found = make_jdk(tmp_path / "jvm" / "21", "21")
    old = make_jdk(tmp_path / "old", "17.0.15")
    assert find_jdk({"JAVA_HOME": str(old)}, [str(tmp_path / "jvm")]).home == found


def test_the_java_on_path_counts_by_the_folder_that_it_is_in(tmp_path: Path) -> None:
    home = make_jdk(tmp_path / "jdk", "21.0.2")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(home / "bin" / "java")
    assert find_jdk({"PATH": str(tmp_path / "bin")}, []).home == home


def test_without_a_release_file_java_is_asked(tmp_path: Path) -> None:
    home = make_jdk(tmp_path / "jdk", "")
    (home / "release").unlink()
    executable(home / "bin" / "java", "#!/bin/sh\necho 'openjdk version \"22.0.1\"' >&2\n")
    assert find_jdk({}, [str(tmp_path)]).version == 22


def test_none_is_an_error_that_says_what_was_found_and_how_to_install(tmp_path: Path) -> None:
    make_jdk(tmp_path / "17", "17.0.15")
    make_jdk(tmp_path / "21", "21", compiler=False)
    make_jdk(tmp_path / "23", "23")
    with pytest.raises(Unsupported) as error:
        find_jdk({}, [str(tmp_path)], usable=lambda home: home.name != "23")
    message = str(error.value)
    assert "No JDK of version 21 or newer" in message
    assert f"{tmp_path / '17'} is version 17" in message
    assert f"{tmp_path / '21'} is a runtime without a compiler" in message
    assert f"{tmp_path / '23'} can't be read by the account" in message
    assert "apt-get install openjdk-21-jdk-headless" in message
    assert "set OPENSEARCH_JAVA_HOME" in message


def test_maven_is_found_by_its_home_and_on_path(tmp_path: Path) -> None:
    named = executable(tmp_path / "maven" / "bin" / "mvn")
    on_path = executable(tmp_path / "bin" / "mvn")
    path = {"PATH": str(tmp_path / "bin")}
    assert find_maven(path) == on_path
    assert find_maven({"MAVEN_HOME": str(tmp_path / "maven"), **path}) == named
    assert find_maven({"MAVEN_HOME": str(tmp_path / "nowhere"), **path}) == on_path


def test_no_maven_is_an_error_that_says_how_to_install(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="apt-get install maven"):
        find_maven({"PATH": str(tmp_path)})
