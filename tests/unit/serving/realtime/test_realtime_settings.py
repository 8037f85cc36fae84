"""What a session is set to, as the server is asked."""

import pytest

from serving.door.realtime.session_settings import Session


def test_a_voice_of_openai_is_handed_on_to_the_server_which_knows_their_names():
    session = Session("sess", 0)
    session.update({"audio": {"output": {"voice": "marin"}}})
    assert session.settings.parameters(1024)["voice"] == "marin"


@pytest.mark.parametrize("given", [{}, {"audio": {"output": {"speed": 1.0}}}])
def test_the_server_chooses_the_voice_unless_one_of_its_own_is_named(given):
    session = Session("sess", 0)
    session.update(given)
    assert "voice" not in session.settings.parameters(1024)
    session.update({"audio": {"output": {"voice": "en-gb"}}})
    assert session.settings.parameters(1024)["voice"] == "en-gb"
    session.update({"audio": {"output": {"voice": session.shown["audio"]["output"]["voice"]}}})
    assert session.settings.parameters(1024)["voice"] == "en-gb"


def test_what_a_session_shows_may_be_sent_back():
    session = Session("sess", 0)
    before = session.settings.parameters(1024)
    session.update(session.shown)
    assert session.settings.parameters(1024) == before
