"""The settings of a small project. The connection of a thread stays open between requests, whoever they are for."""
import json
import os

_world = json.loads(os.environ['APP_TEST'])

SECRET_KEY = 'of a test'
DEBUG = False
DEBUG_PROPAGATE_EXCEPTIONS = True
ALLOWED_HOSTS = ['.shop.test']
ROOT_URLCONF = 'shop.urls'
INSTALLED_APPS = ['shop']
MIDDLEWARE = ['shop.middleware.TenantMiddleware']
WSGI_APPLICATION = 'shop.wsgi.application'
USE_TZ = True
TIME_ZONE = 'Europe/Vienna'
DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'
LOGGING_CONFIG = None
DATABASES = {'default': {'ENGINE': 'shop.tenant_backend', 'HOST': _world['host'], 'PORT': _world['port'], 'NAME': _world['database'],
                         'USER': _world['user'], 'PASSWORD': _world['password'], 'CONN_MAX_AGE': None, 'OPTIONS': {'connect_timeout': 20}}}
TENANT_SETTING = _world['setting']
