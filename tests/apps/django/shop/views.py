"""What the shop answers: whose rows a request has seen, and what it has written."""
import contextlib

from django.conf import settings
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Count, F, Min
from django.http import JsonResponse

from .models import Entry, EntryOwner, Item

HERE = 'SELECT tenant, current_database()::text, inet_server_port() FROM whoami'


@contextlib.contextmanager
def transaction_of(request, **options):
    with transaction.atomic(**options):
        if request.naming == 'atomic':
            with connection.cursor() as cursor:
                cursor.execute('SELECT set_config(%s, %s, true)', [settings.TENANT_SETTING, request.tenant])
        yield


def here():
    with connection.cursor() as cursor:
        cursor.execute(HERE)
        return cursor.fetchone()


def read(request):
    """Every way to read: the seen tenants, and the place."""
    seen = {}
    with transaction_of(request):
        place = here()
        seen['values'] = list(Item.objects.order_by('id').values_list('tenant', flat=True)[:10])
        seen['aggregate'] = [row['tenant'] for row in Item.objects.values('tenant').annotate(count=Count('id'))]
        seen['raw'] = [item.tenant for item in Item.objects.raw('SELECT * FROM items WHERE n >= %s', [0])]
        # A cursor on the server, for as long as the transaction.
        seen['iterator'] = [item.tenant for item in Item.objects.order_by('id').iterator(chunk_size=3)]
    if request.naming != 'atomic':
        seen['first'] = [Item.objects.first().tenant]
        # Without a transaction the cursor is WITH HOLD; others work while it is open.
        held = Item.objects.order_by('id').iterator(chunk_size=3)
        seen['held'] = [next(held).tenant, Item.objects.last().tenant] + [item.tenant for item in held]
    return JsonResponse({'seen': seen, 'here': place})


def write(request, key):
    """Transactions that end in every way."""
    committed, rolled_back, places = [], [], []
    with transaction_of(request):
        Entry.objects.create(id=key)
        smallest = Item.objects.aggregate(id=Min('id'))['id']
        item = Item.objects.select_for_update().get(id=smallest + int(request.GET['worker']))
        Item.objects.filter(id=item.id).update(n=F('n') + 1)
    committed.append(key)
    with contextlib.suppress(KeyError), transaction_of(request):
        Entry.objects.create(id=key + '-gone')
        raise KeyError
    rolled_back.append(key + '-gone')
    with transaction_of(request):
        Entry.objects.create(id=key + '-kept')
        for _ in range(2):
            try:
                with transaction.atomic():
                    Entry.objects.create(id=key + '-undone')
                    Entry.objects.create(id=key)
                    raise AssertionError('a key twice')
            except IntegrityError:
                places.append(here())
        sid = transaction.savepoint()
        Entry.objects.filter(id=key + '-kept').update(amount=7)
        transaction.savepoint_rollback(sid)
        assert Entry.objects.get(id=key + '-kept').amount == 1
    committed.append(key + '-kept')
    rolled_back.append(key + '-undone')
    with transaction_of(request):
        Entry.objects.bulk_create([Entry(id='%s-bulk%d' % (key, number)) for number in range(5)], batch_size=2)
        assert Entry.objects.get_or_create(id=key)[1] is False
    committed.extend('%s-bulk%d' % (key, number) for number in range(5))
    if request.naming != 'atomic':
        try:
            Item.objects.extra(where=['no_such_column']).first()
            raise AssertionError('no such column is there')
        except DatabaseError as error:
            assert error.__cause__.pgcode == '42703', error
    with transaction_of(request):
        owners = list(EntryOwner.objects.filter(id__startswith=key).values_list('tenant', flat=True))
        places.append(here())
    assert len(owners) == len(committed), owners
    return JsonResponse({'seen': {'owners': owners}, 'places': places, 'committed': committed, 'rolled_back': rolled_back, 'added': 1})
