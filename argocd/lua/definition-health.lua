-- Health of a CustomResourceDefinition. By Argo CD's own rule one that has just been made is Degraded until the API server
-- serves it, which ends the sync of all that comes after it, where the API server is not quick.
local health = { status = "Progressing", message = "the API server does not serve it yet" }
local status = obj.status or {}
for _, condition in ipairs(status.conditions or {}) do
  local bad = (condition.type == "NamesAccepted" and condition.status == "False")
    or (condition.type == "NonStructuralSchema" and condition.status == "True")
  if bad then
    return { status = "Degraded", message = condition.message }
  end
  if condition.type == "Established" and condition.status == "True" then
    health = { status = "Healthy", message = condition.message }
  end
end
return health
