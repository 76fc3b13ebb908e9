"""Requests for several tenants to the shop, from threads as those of a server; Django keeps one connection for each."""
import io
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, os.pardir, 'python')]

import program  # noqa: E402  (found through the path above)
from shop.wsgi import application  # noqa: E402
from django.db import DatabaseError, connection  # noqa: E402


def get(tenant, naming, path, query=''):
    """A request through the whole of Django, as a server makes it."""
    environ = {'REQUEST_METHOD': 'GET', 'PATH_INFO': path, 'QUERY_STRING': query, 'SERVER_NAME': 'shop.test', 'SERVER_PORT': '80',
               'HTTP_HOST': tenant + '.shop.test', 'HTTP_X_NAMING': naming, 'wsgi.input': io.BytesIO(), 'wsgi.errors': sys.stderr,
               'wsgi.url_scheme': 'http', 'wsgi.version': (1, 0), 'wsgi.multithread': True, 'wsgi.multiprocess': False, 'wsgi.run_once': False}
    status = []
    answer = application(environ, lambda text, headers: status.append(text))
    body = b''.join(answer)
    answer.close()
    assert status == ['200 OK'], '%s %s' % (status, body[:300])
    return json.loads(body)


def nobody():
    def read():
        with connection.cursor() as cursor:
            cursor.execute(program.HERE)
            return cursor.fetchall()
    program.nobody(read, DatabaseError)


def naming(name, ends_without):
    def turn_of(turn):
        answer = get(turn.tenant, name, '/read')
        turn.here(answer['here'])
        for rows in answer['seen'].values():
            turn.own([(tenant,) for tenant in rows])
        answer = get(turn.tenant, name, '/write/' + turn.key(), 'worker=%d' % turn.worker)
        turn.committed(*answer['committed'])
        turn.rolled_back(*answer['rolled_back'])
        turn.added(answer['added'])
        turn.own([(tenant,) for tenant in answer['seen']['owners']])
        for place in answer['places']:
            turn.here(place)
        if ends_without:
            nobody()
        else:
            # The backend ignores that it could not name the tenant.
            program.nobody_after(lambda: None, lambda: get('nobody', name, '/read'), DatabaseError)
    return turn_of


program.run('django', {
    'the setting for a request': naming('setting', True), 'set_config for a request': naming('set_config', True),
    'set_config in every atomic block': naming('atomic', True)} if program.SETTING else {
    'before every cursor': naming('every_cursor', False), 'when it may be lost': naming('limited', False), 'for a request': naming('request', True)})
